package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/store"
)

// maxPushed bounds the images that one notification names.
const maxPushed = 1000

// pushed is an image that a notification tells of.
type pushed struct{ repository, tag string }

// notification is what registries send when something was pushed: the events of
// the distribution registry (https://distribution.github.io/distribution/about/notifications/),
// Harbor's webhook (https://goharbor.io/docs/2.13.0/working-with-projects/project-configuration/configure-webhooks/)
// and GitHub's of packages
// (https://docs.github.com/en/webhooks/webhook-events-and-payloads#package).
type notification struct {
	Events []struct {
		Action string `json:"action"`
		Target struct {
			Repository string `json:"repository"`
			Tag        string `json:"tag"`
		} `json:"target"`
	} `json:"events"`

	Type      string `json:"type"`
	EventData struct {
		Resources []struct {
			Tag string `json:"tag"`
		} `json:"resources"`
		Repository struct {
			FullName string `json:"repo_full_name"`
		} `json:"repository"`
	} `json:"event_data"`

	Package *githubPackage `json:"package"`
	// Other registries say these, at the least.
	Repository json.RawMessage `json:"repository"`
	Tag        string          `json:"tag"`
}

type githubPackage struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Version   struct {
		Container struct {
			Tag struct {
				Name string `json:"name"`
			} `json:"tag"`
		} `json:"container_metadata"`
	} `json:"package_version"`
}

// parseNotification reads what was pushed. An empty list is no error: there
// are notifications of pulls and deletions.
func parseNotification(body []byte) ([]pushed, error) {
	var n notification
	if err := json.Unmarshal(body, &n); err != nil {
		return nil, fmt.Errorf("the notification is no JSON of a known form: %w", err)
	}
	var out []pushed
	add := func(repository, tag string) {
		if repository != "" && tag != "" && len(repository) <= 255 && len(tag) <= 128 && len(out) < maxPushed {
			out = append(out, pushed{strings.ToLower(repository), tag})
		}
	}
	for _, e := range n.Events {
		if e.Action == "push" {
			add(e.Target.Repository, e.Target.Tag)
		}
	}
	if n.Type == "PUSH_ARTIFACT" || n.Type == "pushImage" {
		for _, r := range n.EventData.Resources {
			add(n.EventData.Repository.FullName, r.Tag)
		}
	}
	if p := n.Package; p != nil {
		add(strings.Trim(p.Namespace+"/"+p.Name, "/"), p.Version.Container.Tag.Name)
	}
	var repository string
	if json.Unmarshal(n.Repository, &repository) == nil { // GitHub's is an object
		add(repository, n.Tag)
	}
	return out, nil
}

// notified takes a registry's notification: what was pushed is read next.
func (s *Server) notified(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		problem(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the notification is longer than %d bytes", maxBody))
		return
	}
	reg, err := s.store.Registry(r.Context(), r.PathValue("name"))
	var have credentials
	if err == nil {
		have, err = s.credentials(reg)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		s.o.Log.Error("notification", "registry", r.PathValue("name"), "error", err)
	}
	if err != nil || !proves(r, body, have.Notify) { // whether it exists is for nobody to know
		problem(w, r, http.StatusUnauthorized, "send the registry's notification token: Authorization: Bearer …, or log in and see it made")
		return
	}
	all, err := parseNotification(body)
	if err != nil {
		problem(w, r, http.StatusBadRequest, err.Error())
		return
	}
	if err := s.take(r, reg, all); err != nil {
		s.o.Log.Error("notification", "registry", reg.Name, "error", err)
		problem(w, r, http.StatusServiceUnavailable, "the notification could not be stored: send it again")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) take(r *http.Request, reg store.Registry, all []pushed) error {
	for _, p := range all {
		if !wanted(reg.Repositories, p.repository) || !wanted(reg.Tags, p.tag) {
			continue
		}
		if err := s.store.WantTarget(r.Context(), store.RegistryTarget{Registry: reg.Name, Repository: p.repository, Tag: p.tag, Priority: store.PriorityPushed}); err != nil {
			return err
		}
	}
	s.crawler.wakeUp()
	return nil
}

// proves says whether a request holds the token, as a bearer, alone, or as the
// key of GitHub's signature of the body.
func proves(r *http.Request, body []byte, token string) bool {
	if token == "" {
		return false
	}
	if signed, ok := strings.CutPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256="); ok {
		mac := hmac.New(sha256.New, []byte(token))
		mac.Write(body)
		got, err := hex.DecodeString(signed)
		return err == nil && hmac.Equal(got, mac.Sum(nil))
	}
	given := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	return subtle.ConstantTimeCompare([]byte(given), []byte(token)) == 1
}
