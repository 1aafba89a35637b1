package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/breakwater-sec/breakwater/api"
	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/store"
	"github.com/breakwater-sec/breakwater/internal/web"
)

const streamPath = "/api/v1/incidents/stream"

// routes adds the API to the mux; everything below /api/ passes known.
func (s *Server) routes(mux *http.ServeMux) {
	inner := http.NewServeMux()
	config := huma.DefaultConfig("Breakwater", s.o.Version)
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":   {Type: "http", Scheme: "bearer"},
		"session": {Type: "apiKey", In: "cookie", Name: "__Host-breakwater"},
	}
	config.Security = []map[string][]string{{"token": {}}, {"session": {}}}
	config.OpenAPIPath, config.DocsPath, config.SchemasPath, config.CreateHooks = "/api/v1/openapi", "", "", nil
	s.operations(humago.New(inner, config))
	inner.HandleFunc("GET "+streamPath, s.stream)
	inner.HandleFunc("GET "+huntPath, s.hunt)
	inner.HandleFunc("GET /api/v1/incidents/{id}/evidence", s.evidence)
	inner.HandleFunc("POST "+huntPath, s.hunt)
	inner.HandleFunc("POST "+scansPath, s.scanned)
	inner.HandleFunc("GET /api/v1/images/{digest}/reports/{format}", s.download)
	inner.Handle("GET /api/v1/metrics", promhttp.HandlerFor(s.o.Registry, promhttp.HandlerOpts{}))
	inner.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, r, http.StatusNotFound, "the API has no "+r.Method+" "+r.URL.Path+": see /api/v1/openapi.json")
	})
	mux.HandleFunc("POST /api/v1/registries/{name}/notifications", s.notified) // it has a token of its own
	mux.Handle("/api/", s.known(inner))
}

// schemaName tells the store's rows from the vocabulary that they embed.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if strings.HasSuffix(t.PkgPath(), "internal/store") {
		return "Stored" + name
	}
	return name
}

// operations is the list of everything the API can do.
func (s *Server) operations(a huma.API) {
	huma.Get(a, "/api/v1/healthz", s.apiHealth, strangers)
	huma.Get(a, "/api/v1/incidents", s.apiIncidents)
	huma.Get(a, "/api/v1/incidents/{id}", s.apiIncident)
	huma.Get(a, "/api/v1/stories", s.apiStories)
	huma.Get(a, "/api/v1/stories/{id}", s.apiStory)
	huma.Post(a, "/api/v1/incidents/{id}/exceptions", s.apiExcept, limited)
	huma.Get(a, "/api/v1/exceptions", s.apiExceptions)
	huma.Delete(a, "/api/v1/exceptions/{id}", s.apiUnexcept)
	huma.Get(a, "/api/v1/detections", s.apiDetections)
	huma.Get(a, "/api/v1/detections/{id}", s.apiDetection)
	huma.Get(a, "/api/v1/events", s.apiEvents)
	huma.Get(a, "/api/v1/images", s.apiImages)
	huma.Get(a, "/api/v1/images/{digest}", s.apiImage)
	huma.Get(a, "/api/v1/where", s.apiWhere)
	huma.Get(a, "/api/v1/registries", s.apiRegistries)
	huma.Get(a, "/api/v1/registries/{name}", s.apiRegistry)
	huma.Get(a, "/api/v1/registries/{name}/tags", s.apiTargets)
	huma.Put(a, "/api/v1/registries/{name}", s.apiPutRegistry, limited)
	huma.Delete(a, "/api/v1/registries/{name}", s.apiDeleteRegistry)
	huma.Post(a, "/api/v1/registries/{name}/crawl", s.apiCrawl, limited)
	huma.Get(a, "/api/v1/policies", s.apiPolicies)
	huma.Get(a, "/api/v1/policies/{name}", s.apiPolicy)
	huma.Get(a, "/api/v1/policies/{name}/versions", s.apiVersions)
	huma.Post(a, "/api/v1/policies", s.apiApply, limited)
	huma.Delete(a, "/api/v1/policies/{name}", s.apiDelete)
	huma.Get(a, "/api/v1/intelligence", s.apiIntelligence)
	huma.Get(a, "/api/v1/intelligence/promotions", s.apiPromotions)
	huma.Post(a, "/api/v1/intelligence/promotions", s.apiPromote, limited)
	huma.Delete(a, "/api/v1/intelligence/promotions/{id}", s.apiDemote)
	huma.Get(a, "/api/v1/vex", s.apiVEX)
	huma.Put(a, "/api/v1/vex/{name}", s.apiAddVEX, limited, readElsewhere)
	huma.Delete(a, "/api/v1/vex/{name}", s.apiRemoveVEX)
	huma.Get(a, "/api/v1/hosts", s.apiHosts)
	huma.Get(a, "/api/v1/audit", s.apiAudit)
	huma.Post(a, "/api/v1/tokens", s.apiToken, limited)
	huma.Post(a, "/api/v1/agents/tokens", s.apiEnrolment, limited)
	huma.Post(a, "/api/v1/agents/enrol", s.apiEnrol, strangers, limited)
	huma.Put(a, "/api/v1/agents/{agent}/stage", s.apiStage, limited)
	huma.Delete(a, "/api/v1/agents/{agent}", s.apiRevoke)
	s.describeHunt(a)
	a.OpenAPI().AddOperation(&huma.Operation{OperationID: "download-evidence", Method: http.MethodGet, Path: "/api/v1/incidents/{id}/evidence",
		Summary:    "The evidence of an incident's story, from its agent: a tar with manifest.json, for administrators",
		Parameters: []*huma.Param{{Name: "id", In: "path", Required: true, Schema: &huma.Schema{Type: "integer"}}},
		Responses:  map[string]*huma.Response{"200": {Description: "the bundle", Content: map[string]*huma.MediaType{"application/x-tar": {}}}}})
	a.OpenAPI().AddOperation(&huma.Operation{OperationID: "judge-scan", Method: http.MethodPost, Path: scansPath,
		Summary:     "Keeps a scan's report (docs/report-schema.md) and judges it by the policies in force; with a token of scope ci",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {}}},
		Responses:   map[string]*huma.Response{"200": {Description: "the verdict", Content: map[string]*huma.MediaType{"application/json": {Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[scanAnswer](), true, "ScanAnswer")}}}}})
	a.OpenAPI().AddOperation(&huma.Operation{OperationID: "download-report", Method: http.MethodGet, Path: "/api/v1/images/{digest}/reports/{format}",
		Summary: "An image's report as a file: html, json, sarif, cyclonedx, spdx, openvex, junit or gitlab",
		Parameters: []*huma.Param{{Name: "digest", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}},
			{Name: "format", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}}},
		Responses: map[string]*huma.Response{"200": {Description: "the file"}}})
	a.OpenAPI().AddOperation(&huma.Operation{OperationID: "notify-registry", Method: http.MethodPost, Path: "/api/v1/registries/{name}/notifications",
		Summary:    "What a registry sends when an image was pushed: of the distribution registry, Harbor or GitHub",
		Security:   []map[string][]string{{"token": {}}},
		Parameters: []*huma.Param{{Name: "name", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}}},
		Responses:  map[string]*huma.Response{"204": {Description: "what was pushed is read next"}}})
	a.OpenAPI().AddOperation(&huma.Operation{OperationID: "stream-incidents", Method: http.MethodGet, Path: streamPath,
		Summary:   "New incidents as server-sent events",
		Responses: map[string]*huma.Response{"200": {Description: "events named incident", Content: map[string]*huma.MediaType{"text/event-stream": {}}}}})
}

func strangers(o *huma.Operation) { o.Security = []map[string][]string{} }
func limited(o *huma.Operation)   { o.MaxBodyBytes = maxBody }

// readElsewhere: the body is JSON of somebody else's form, which its own reader checks.
func readElsewhere(o *huma.Operation) { o.SkipValidateBody = true }

// answer wraps a body for huma.
type answer[T any] struct{ Body T }

// rows is a list of things.
type rows[T any] struct {
	Items []T `json:"items"`
}

// reply answers with a list, never null, or with the right status for err.
func reply[T any](items []T, err error) (*answer[rows[T]], error) {
	if err != nil {
		return nil, apiError(err)
	}
	if items == nil {
		items = []T{}
	}
	return &answer[rows[T]]{rows[T]{items}}, nil
}

func single[T any](v T, err error) (*answer[T], error) {
	if err != nil {
		return nil, apiError(err)
	}
	return &answer[T]{v}, nil
}

// apiError chooses the status. Only errors that speak of the request are told;
// huma logs and hides nothing of the rest, so they are replaced.
func apiError(err error) error {
	var bad badEnrolment
	var wrong document.Errors
	var stage badStage
	var registry badRegistry
	var exception badException
	switch {
	case errors.As(err, &exception):
		return huma.Error400BadRequest(exception.Error())
	case errors.As(err, &registry):
		return huma.Error400BadRequest(registry.Error())
	case errors.As(err, &stage):
		return huma.Error400BadRequest(stage.Error())
	case errors.As(err, &wrong):
		return policyError(wrong)
	case errors.Is(err, store.ErrQuestion):
		return huma.Error400BadRequest(err.Error())
	case errors.Is(err, store.ErrNotFound):
		return huma.Error404NotFound(err.Error())
	case errors.Is(err, store.ErrConflict):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, errEnrolment):
		return huma.Error403Forbidden(errEnrolment.Error())
	case errors.As(err, &bad):
		return huma.Error400BadRequest(bad.Error())
	case errors.Is(err, store.ErrBusy):
		return huma.Error503ServiceUnavailable("the database is locked by another process: try again")
	case errors.Is(err, store.ErrFull):
		return huma.NewError(http.StatusInsufficientStorage, "the server's disk is full: reading works, nothing can be changed")
	}
	return huma.Error500InternalServerError("the server could not do this; its log says why")
}

func policyError(wrong document.Errors) error {
	var details []error
	for _, e := range wrong {
		details = append(details, &huma.ErrorDetail{Message: e.Error(), Location: e.Path})
	}
	return huma.Error422UnprocessableEntity("the policy is wrong; nothing was stored", details...)
}

type health struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

// apiHealth says that the server answers and its database can be read.
func (s *Server) apiHealth(ctx context.Context, _ *struct{}) (*answer[health], error) {
	if _, err := s.store.Generation(ctx); err != nil {
		return nil, huma.Error503ServiceUnavailable("the database cannot be read")
	}
	return single(health{"ok", s.o.Version}, nil)
}

// incidentQuery are the filters of the console's page, as parameters.
type incidentQuery struct {
	Key       string `query:"key"`
	Agent     string `query:"agent"`
	Host      string `query:"host"`
	Container string `query:"container" doc:"id, a beginning of at least 12 digits of it, or name"`
	Image     string `query:"image" doc:"config digest"`
	Policy    string `query:"policy"`
	Detection string `query:"detection"`
	Severity  string `query:"severity" doc:"this one or worse"`
	Outcome   string `query:"outcome" enum:"prevented,killed,detected,not covered"`
	Control   string `query:"control"`
	Text      string `query:"text" doc:"a part of the sentence"`
	Since     string `query:"since" doc:"how far back: 90m, 24h, 7d"`
	After     uint64 `query:"after" doc:"only ids above, oldest first"`
	Before    uint64 `query:"before" doc:"only ids below"`
	Limit     int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}

func (s *Server) incidentFilter(in *incidentQuery) (store.IncidentFilter, error) {
	q := url.Values{"key": {in.Key}, "agent": {in.Agent}, "host": {in.Host}, "container": {in.Container}, "image": {in.Image}, "policy": {in.Policy},
		"detection": {in.Detection}, "severity": {in.Severity}, "outcome": {in.Outcome}, "control": {in.Control}, "text": {in.Text}, "since": {in.Since}}
	f, err := web.IncidentFilter(q, s.o.Now())
	if err != nil {
		return f, huma.Error400BadRequest(err.Error())
	}
	f.After, f.Before, f.Limit, f.Oldest = in.After, in.Before, in.Limit, in.After > 0
	return f, nil
}

func (s *Server) apiIncidents(ctx context.Context, in *incidentQuery) (*answer[rows[store.Incident]], error) {
	f, err := s.incidentFilter(in)
	if err != nil {
		return nil, err
	}
	return reply(s.store.Incidents(ctx, f))
}

func (s *Server) apiIncident(ctx context.Context, in *struct {
	ID uint64 `path:"id"`
}) (*answer[store.Incident], error) {
	return single(s.store.Incident(ctx, in.ID))
}

func (s *Server) apiEvents(ctx context.Context, in *struct {
	Agent     string `query:"agent"`
	Container string `query:"container" doc:"full id"`
	Kind      string `query:"kind"`
	After     uint64 `query:"after"`
	Before    uint64 `query:"before"`
	Limit     int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}) (*answer[rows[store.Event]], error) {
	return reply(s.store.Events(ctx, store.EventFilter{Agent: in.Agent, Container: in.Container, Kind: event.Kind(in.Kind), After: in.After, Before: in.Before, Limit: in.Limit}))
}

func (s *Server) apiImages(ctx context.Context, in *struct {
	Text    string `query:"text"`
	Refused bool   `query:"refused"`
	Running bool   `query:"running"`
	Worst   string `query:"worst" doc:"this severity or worse"`
	Limit   int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Offset  int    `query:"offset" minimum:"0"`
}) (*answer[rows[store.Image]], error) {
	return reply(s.store.Images(ctx, store.ImageFilter{Text: in.Text, Refused: in.Refused, Running: in.Running, Worst: event.Severity(in.Worst), Limit: in.Limit, Offset: in.Offset}))
}

// imageAnswer is an image with its report.
type imageAnswer struct {
	Image  store.Image   `json:"image"`
	Report report.Report `json:"report"`
}

func (s *Server) apiImage(ctx context.Context, in *struct {
	Digest string `path:"digest"`
}) (*answer[imageAnswer], error) {
	img, rep, err := s.Image(ctx, in.Digest)
	return single(imageAnswer{img, rep}, err)
}

func (s *Server) apiWhere(ctx context.Context, in *struct {
	Kind      string `query:"kind" required:"true" enum:"vulnerability,package,secret,malware"`
	Name      string `query:"name" doc:"a vulnerability's id or alias, a package, a secret's rule or a malware's name; empty for every secret or malware"`
	Ecosystem string `query:"ecosystem" doc:"of the package, with or without release: npm, Debian, Debian:12"`
	Versions  string `query:"versions" doc:"bounds that all hold: <1.2.3, or >=1.0 <2"`
	Running   bool   `query:"running" doc:"only images that run"`
	Limit     int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Offset    int    `query:"offset" minimum:"0"`
}) (*answer[store.Answer], error) {
	return single(s.store.Where(ctx, store.Question{Kind: store.ThingKind(in.Kind), Name: in.Name, Ecosystem: in.Ecosystem, Versions: in.Versions,
		Running: in.Running, Limit: in.Limit, Offset: in.Offset}))
}

// download sends a report in another format.
func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	img, rep, err := s.Image(r.Context(), r.PathValue("digest"))
	if err == nil {
		err = web.WriteReport(w, r.PathValue("format"), img, rep)
	}
	switch {
	case err == nil:
	case errors.Is(err, store.ErrNotFound):
		problem(w, r, http.StatusNotFound, err.Error())
	case errors.Is(err, web.ErrFormat):
		problem(w, r, http.StatusBadRequest, err.Error())
	default:
		s.o.Log.Error("report not sent", "request", requestID(r), "error", err)
		problem(w, r, http.StatusInternalServerError, "the server could not do this; its log says why")
	}
}

// policyList is what is in force, as which generation.
type policyList struct {
	Generation uint64         `json:"generation"`
	Items      []store.Policy `json:"items"`
}

func (s *Server) apiPolicies(ctx context.Context, _ *struct{}) (*answer[policyList], error) {
	generation, err := s.store.Generation(ctx)
	if err != nil {
		return nil, apiError(err)
	}
	all, err := s.store.Policies(ctx)
	if all == nil {
		all = []store.Policy{}
	}
	return single(policyList{generation, all}, err)
}

func (s *Server) apiPolicy(ctx context.Context, in *struct {
	Name    string `path:"name"`
	Version int    `query:"version" doc:"0: the newest" minimum:"0"`
}) (*answer[store.Policy], error) {
	return single(s.store.Policy(ctx, in.Name, in.Version))
}

func (s *Server) apiVersions(ctx context.Context, in *struct {
	Name string `path:"name"`
}) (*answer[rows[store.Policy]], error) {
	return reply(s.store.PolicyVersions(ctx, in.Name))
}

// apiApply takes a YAML file of one or more policies.
func (s *Server) apiApply(ctx context.Context, in *struct {
	RawBody []byte `contentType:"application/yaml"`
}) (*answer[policyList], error) {
	all, err := s.Apply(ctx, in.RawBody, actorOf(ctx))
	if err != nil {
		return nil, apiError(err)
	}
	generation, err := s.store.Generation(ctx)
	return single(policyList{generation, all}, err)
}

func (s *Server) apiDelete(ctx context.Context, in *struct {
	Name string `path:"name"`
}) (*answer[store.Policy], error) {
	return single(s.Delete(ctx, in.Name, actorOf(ctx)))
}

func (s *Server) apiHosts(ctx context.Context, _ *struct{}) (*answer[rows[store.Agent]], error) {
	return reply(s.store.Agents(ctx))
}

func (s *Server) apiAudit(ctx context.Context, in *struct {
	Object string `query:"object"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
}) (*answer[rows[store.AuditEntry]], error) {
	return reply(s.store.AuditLog(ctx, in.Object, in.Limit))
}

// enrolment asks for a token for new agents.
type enrolment struct {
	Uses  int    `json:"uses" minimum:"1" maximum:"10000" default:"1"`
	Life  string `json:"life" doc:"how long it holds: 1h, 24h; at most 720h" default:"1h"`
	Token string `json:"token,omitempty" readOnly:"true"`
	// Fingerprint is the server's, to pin.
	Fingerprint string `json:"fingerprint,omitempty" readOnly:"true"`
}

func (s *Server) apiEnrolment(ctx context.Context, in *struct{ Body enrolment }) (*answer[enrolment], error) {
	life, err := time.ParseDuration(in.Body.Life)
	if err != nil {
		return nil, huma.Error400BadRequest("life " + in.Body.Life + ": use a length of time as 1h")
	}
	if life <= 0 || life > maxEnrolmentLife {
		return nil, huma.Error400BadRequest("life " + in.Body.Life + ": use a length of time of at most 720h")
	}
	token, err := s.NewEnrolment(ctx, in.Body.Uses, life, actorOf(ctx))
	return single(enrolment{in.Body.Uses, in.Body.Life, token, s.Fingerprint()}, err)
}

func (s *Server) apiEnrol(ctx context.Context, in *struct{ Body api.EnrolRequest }) (*answer[api.EnrolResponse], error) {
	return single(s.Enrol(ctx, in.Body, actorOf(ctx)))
}

// stageBody is the label of an agent's host.
type stageBody struct {
	Stage string `json:"stage" doc:"development, staging, production, or empty for none"`
}

func (s *Server) apiStage(ctx context.Context, in *struct {
	Agent string `path:"agent"`
	Body  stageBody
}) (*answer[stageBody], error) {
	return single(in.Body, s.SetStage(ctx, in.Agent, in.Body.Stage, actorOf(ctx)))
}

func (s *Server) apiRevoke(ctx context.Context, in *struct {
	Agent string `path:"agent"`
}) (*struct{}, error) {
	if err := s.Revoke(ctx, in.Agent, actorOf(ctx)); err != nil {
		return nil, apiError(err)
	}
	return nil, nil
}
