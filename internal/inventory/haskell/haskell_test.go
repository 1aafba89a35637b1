package haskell_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/haskell"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const (
	conf   = "name:            aeson\nversion:         2.0.3.0\nvisibility:      public\nlicense:         BSD-3-Clause\ndescription:\n    name: no\nabi: 00\n"
	stack  = "packages:\n- completed:\n    hackage: aeson-2.0.3.0@sha256:abc,6000\n    pantry-tree:\n      sha256: x\n      size: 1\n  original:\n    hackage: aeson-2.0.3.0\nsnapshots:\n- completed:\n    size: 1\n"
	freeze = "active-repositories: hackage.haskell.org:merge\nconstraints: any.aeson ==2.0.3.0,\n             aeson -bytestring-builder +ordered-keymap,\n             any.text ==1.2.5.0\nindex-state: hackage.haskell.org 2022-07-07T00:00:00Z\n"
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, haskell.Driver{}, []inventorytest.Case{
		{Path: "opt/ghc/lib/package.conf.d/aeson-2.0.3.0.conf", Content: []byte(conf), Want: []string{"aeson 2.0.3.0"}},
	}, []string{"etc/nginx/conf.d/a.conf"})
	inventorytest.Run(t, haskell.Locks{}, []inventorytest.Case{
		{Path: "app/stack.yaml.lock", Locked: true, Content: []byte(stack), Want: []string{"aeson 2.0.3.0"}},
		{Path: "app/cabal.project.freeze", Locked: true, Content: []byte(freeze), Want: []string{"aeson 2.0.3.0", "text 1.2.5.0"}},
	}, []string{"root/.stack/x/stack.yaml.lock"})
}

func FuzzConf(f *testing.F) {
	inventorytest.Fuzz(f, haskell.Driver{}, "lib/package.conf.d/a.conf", conf)
}
func FuzzStack(f *testing.F)  { inventorytest.Fuzz(f, haskell.Locks{}, "stack.yaml.lock", stack) }
func FuzzFreeze(f *testing.F) { inventorytest.Fuzz(f, haskell.Locks{}, "cabal.project.freeze", freeze) }
