package hex_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/hex"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const (
	app   = "{application,'cowboy',\n             [{description,\"server\"},\n              {vsn,\"2.9.0\"},\n              {modules,[]}]}.\n"
	mix   = "%{\n  \"plug\": {:hex, :plug, \"1.13.6\", \"abc\", [:mix], [{:mime, \"~> 1.0 or ~> 2.0\", [hex: :mime, repo: \"hexpm\", optional: false]}], \"hexpm\", \"def\"},\n  \"own\": {:git, \"https://example.org/own.git\", \"abc\", []},\n  \"mime\": {:hex, :mime, \"2.0.2\", \"x\", [:mix], [], \"hexpm\", \"y\"},\n}\n"
	rebar = "{\"1.2.0\",\n[{<<\"cowboy\">>,{pkg,<<\"cowboy\">>,<<\"2.9.0\">>},0},\n {<<\"own\">>,{git,\"https://example.org\",{ref,\"a\"}},0},\n {<<\"ranch\">>,{pkg,<<\"ranch\">>,<<\"1.8.0\">>},1}]}.\n[\n{pkg_hash,[\n {<<\"cowboy\">>, <<\"00\">>}]}\n].\n"
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, hex.Driver{}, []inventorytest.Case{
		{Path: "app/lib/cowboy-2.9.0/ebin/cowboy.app", Content: []byte(app), Want: []string{"cowboy 2.9.0"}},
	}, []string{"usr/lib/erlang/lib/kernel-8.0/ebin/kernel.app", "x/y.app"})
	inventorytest.Run(t, hex.Locks{}, []inventorytest.Case{
		{Path: "app/mix.lock", Locked: true, Content: []byte(mix), Want: []string{"plug 1.13.6", "mime 2.0.2"}},
		{Path: "app/rebar.lock", Locked: true, Content: []byte(rebar), Want: []string{"cowboy 2.9.0", "ranch 1.8.0"}},
	}, []string{"app/deps/x/mix.lock"})
}

func FuzzApp(f *testing.F)   { inventorytest.Fuzz(f, hex.Driver{}, "a/ebin/a.app", app) }
func FuzzMix(f *testing.F)   { inventorytest.Fuzz(f, hex.Locks{}, "mix.lock", mix) }
func FuzzRebar(f *testing.F) { inventorytest.Fuzz(f, hex.Locks{}, "rebar.lock", rebar) }
