package luarocks_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/luarocks"
)

// spec is what LuaRocks 3.8 keeps of a rock that `luarocks make` installed.
const spec = `package = "acme"
version = "1.2.3-1"
source = { url = "git://acme.example/acme.git" }
description = {
   summary = "A rock of a test",
   license = "MIT/X11",
}
dependencies = { "lua >= 5.1" }
build = { type = "builtin", modules = { acme = "acme.lua" } }
`

func TestConformance(t *testing.T) {
	inventorytest.Run(t, luarocks.Driver{}, []inventorytest.Case{
		{Path: "usr/local/lib/luarocks/rocks-5.1/acme/1.2.3-1/acme-1.2.3-1.rockspec", Content: []byte(spec), Want: []string{"acme 1.2.3-1"}},
		{Path: "usr/lib/luarocks/rocks/lua-cjson/2.1.0-1/lua-cjson-2.1.0-1.rockspec", Content: []byte("package = \"lua-cjson\"\n"), Want: []string{"lua-cjson 2.1.0-1"}},
		{Path: "luarocks/rocks-5.4/a/scm-1/a-scm-1.rockspec", Content: []byte("local v = 1\n"), Want: []string{"a scm-1"}},
	}, []string{"acme-1.2.3-1.rockspec", "src/acme/acme-1.2.3-1.rockspec", "usr/lib/luarocks/rocks-5.1/acme/1.2.3-1/other-1.2.3-1.rockspec",
		"usr/lib/luarocks/rocks-5.1/acme/1.2.4-1/acme-1.2.3-1.rockspec", "usr/lib/luarocks/rocks-5.1/acme/1.2.3-1/doc/acme/1.2.3-1/acme-1.2.3-1.rockspec"})
}

func FuzzRockspec(f *testing.F) {
	inventorytest.Fuzz(f, luarocks.Driver{}, "usr/lib/luarocks/rocks-5.1/acme/1.2.3-1/acme-1.2.3-1.rockspec", spec)
}
