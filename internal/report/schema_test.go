package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakwater-sec/breakwater/internal/report"
)

const schemaFile = "../../docs/report.schema.json"

// schema is what the types say, as JSON Schema; the program is generous with
// fields that later versions add.
func schema() (huma.Registry, *huma.Schema) {
	registry := huma.NewMapRegistry("#/$defs/", huma.DefaultSchemaNamer)
	return registry, registry.Schema(reflect.TypeFor[report.Document](), true, "")
}

// TestSchemaFile keeps docs/report.schema.json what the types are (-update
// writes it anew).
func TestSchemaFile(t *testing.T) {
	registry, top := schema()
	defs := registry.Map()
	for _, s := range defs {
		s.AdditionalProperties = true
	}
	doc := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://github.com/breakwater-sec/breakwater/docs/report.schema.json",
		"title": "The report of `breakwater scan --format json`, schema 1", "$ref": top.Ref, "$defs": defs,
	}
	got, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(schemaFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types say: go test ./internal/report -update writes it anew", schemaFile)
	}
}

// TestReportsFitTheSchema: everything that is written has the form that the
// schema says, with no field that it does not name.
func TestReportsFitTheSchema(t *testing.T) {
	registry, top := schema()
	for name, r := range map[string]*report.Report{"full": sample(), "bare": {Schema: 1}} {
		var out bytes.Buffer
		if err := report.JSON(&out, r); err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		var result huma.ValidateResult
		huma.Validate(registry, top, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, v, &result)
		for _, err := range result.Errors {
			t.Errorf("%s: %v", name, err)
		}
	}
}
