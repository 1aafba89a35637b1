package bus

import (
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/breakwater-sec/breakwater/api"
)

// authenticator decides who may connect and what they may say. One agent has
// one connection: a second one with the same key is refused while the first
// lives, so that a copied data folder shows up instead of taking turns.
type authenticator struct {
	serverKey    string // of the server's own connection, made anew at each start
	signAsServer func([]byte) ([]byte, error)
	alive        func(client uint64) bool
	notice       func(string)

	mu      sync.Mutex
	agents  map[string]string // public nkey → agent
	keys    map[string]string // agent → public nkey
	clients map[string]uint64 // agent → its connection
}

func newAuthenticator(agents map[string]string) (*authenticator, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	a := &authenticator{serverKey: public, signAsServer: pair.Sign,
		agents: map[string]string{}, keys: map[string]string{}, clients: map[string]uint64{}}
	for agent, key := range agents {
		if _, err := a.add(agent, key); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// add returns the connection that the agent holds with an older key, or 0.
func (a *authenticator) add(agent, key string) (uint64, error) {
	if err := checkAgent(agent); err != nil {
		return 0, fmt.Errorf("bus: %w", err)
	}
	if err := checkKey(key); err != nil {
		return 0, fmt.Errorf("bus: agent %s: %w", agent, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if other, taken := a.agents[key]; taken && other != agent {
		return 0, fmt.Errorf("bus: agent %s: its nkey belongs to agent %s already: make a new key", agent, other)
	}
	old := a.keys[agent]
	if old == key {
		return 0, nil
	}
	delete(a.agents, old)
	a.agents[key], a.keys[agent] = agent, key
	client := a.clients[agent]
	delete(a.clients, agent)
	return client, nil
}

// remove returns the connection that the agent holds, or 0.
func (a *authenticator) remove(agent string) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.agents, a.keys[agent])
	delete(a.keys, agent)
	client := a.clients[agent]
	delete(a.clients, agent)
	return client
}

func (a *authenticator) connected() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []string
	for agent, client := range a.clients {
		if a.alive(client) {
			list = append(list, agent)
		}
	}
	slices.Sort(list)
	return list
}

// Check is called by the embedded server for each connection.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	o := c.GetOpts()
	if o.Nkey == "" || !signed(o.Nkey, o.Sig, c.GetNonce()) {
		return false
	}
	if subtle.ConstantTimeCompare([]byte(o.Nkey), []byte(a.serverKey)) == 1 {
		c.RegisterUser(&server.User{Username: "server"})
		return true
	}
	agent, ok := a.admit(o.Nkey, c)
	if ok {
		c.RegisterUser(&server.User{Username: agent, Permissions: permissions(agent)})
	}
	return ok
}

func (a *authenticator) admit(key string, c server.ClientAuthentication) (agent string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	agent, ok = a.agents[key]
	if !ok {
		return "", false
	}
	if old := a.clients[agent]; old != 0 && old != c.GetID() && a.alive(old) {
		a.notice(fmt.Sprintf("agent %s: a second connection, from %s, was refused: two agents use one identity; enrol one of them anew", agent, c.RemoteAddress()))
		return "", false
	}
	a.clients[agent] = c.GetID()
	return agent, true
}

func signed(key, signature string, nonce []byte) bool {
	sig, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil || len(nonce) == 0 {
		return false
	}
	public, err := nkeys.FromPublicKey(key)
	return err == nil && public.Verify(nonce, sig) == nil
}

func permissions(agent string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{api.AgentSubject(agent, ">")}},
		Subscribe: &server.SubjectPermission{Allow: []string{api.CommandSubject(agent, ">"), inbox(agent) + ".>"}},
	}
}

// inbox is where the answers to an agent's requests go.
func inbox(agent string) string { return "_INBOX." + agent }
