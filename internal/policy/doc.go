// Package policy is the policy language: parse, check, compile, evaluate. It
// is pure: no clock, no disk, no network but what its callers pass in, so the
// same verdict comes out of the CLI, the server, the gate and the agent.
package policy
