package intel_test

import (
	"fmt"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/intel"
)

// BenchmarkMatch judges 2,000 packages with a bundle of 20,000 advisories: cold
// with a bundle just opened, warm with one that was asked before.
func BenchmarkMatch(b *testing.B) {
	p, data := newPublisher(b), b.TempDir()
	entries := map[string]string{}
	for i := range 20_000 {
		entries[fmt.Sprintf("X-%d.json", i)] = record(fmt.Sprintf("X-%d", i), fmt.Sprintf("pkg-%d", i/2))
	}
	p.set("/osv/npm/all.zip", string(zipped(b, entries)))
	if _, err := intel.Build(b.Context(), intel.Options{Data: data, Source: p.URL, Program: "test"}); err != nil {
		b.Fatal(err)
	}
	var pkgs []event.Package
	for i := range 2000 {
		pkgs = append(pkgs, npm(fmt.Sprintf("pkg-%d", i*50), "1.0.0")) // every tenth is known
	}
	judge := func(b *testing.B, bundle *intel.Bundle) {
		if _, _, _, err := bundle.Match(b.Context(), debian12, pkgs); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			bundle, err := intel.Open(b.Context(), data)
			if err != nil {
				b.Fatal(err)
			}
			judge(b, bundle)
			_ = bundle.Close()
		}
	})
	b.Run("warm", func(b *testing.B) {
		bundle, err := intel.Open(b.Context(), data)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = bundle.Close() }()
		judge(b, bundle)
		for b.Loop() {
			judge(b, bundle)
		}
	})
}
