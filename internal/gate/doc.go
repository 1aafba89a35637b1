// Package gate decides who may start what: it is the program that a Docker
// engine asks, as its authorization plugin, before it carries out a call.
//
// # Processes
//
// The gate is a program of its own, so that it outlives agent and server. It
// runs as two processes that hold the plugin's socket together: a small
// Supervisor, which the engine talks to, and a worker (Work), which judges.
// Either one may be killed: the supervisor starts a new worker and, while there
// is none, answers by the administrator's choice (Failure); a worker whose
// supervisor died takes its place. The engine itself refuses every call when
// both are gone, and no plugin can change that; a service manager that keeps
// the socket (systemd) or `breakwater gate uninstall` can.
//
// # What is judged
//
// Calls are treated as the table in call.go says: creating, starting and
// restarting containers, exec, updates and builds are judged; other known calls
// are let through because they decide nothing about what runs, or are judged
// later; engine plugins and Swarm are refused unless the administrator allows
// them, because the engine starts their containers by itself; unknown calls are
// refused. Docker shows a plugin only JSON bodies of less than 1 MiB: a call
// whose body must be judged and was not shown is refused.
//
// An image is judged by its config digest, when a container is created from a
// name and again when the container starts: a tag that was moved in between
// changes nothing. Which image a name means is remembered as long as the
// engine's events are heard and tell of no change. An exec or an update is
// refused for what it makes worse, not for what its container is already.
//
// # What is not seen
//
// Containers that the engine starts by itself (restart policies, Swarm tasks)
// and those of other engines pass no plugin; the agent judges them when their
// cgroup appears, by the same policy and the same facts (package dockerfacts).
// An image that is mounted into a container is judged by its name, and only by
// the gate. Between the gate's answer and the engine's act a name can change its
// meaning (a link on the host, a container renamed): the judgement at start and
// the agent's own close what the judgement at create leaves open.
//
// # Needs
//
// The gate reads the policy in force and the image reports from the agent's
// data folder (package api); it needs no living agent for them. It asks the
// agent to scan images that nobody has scanned, where policy wants that, and
// tells it about starts and builds. What it decided waits on disk until the
// agent has taken it.
package gate
