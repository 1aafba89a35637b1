package conan_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/conan"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const (
	v1 = `{"graph_lock":{"nodes":{"0":{"path":"conanfile.txt","requires":["1"]},"1":{"ref":"zlib/1.2.12#abc","options":""},"2":{"ref":"own/0.1@me/stable"}},"revisions_enabled":true},"version":"0.4"}`
	v2 = `{"version":"0.5","requires":["zlib/1.2.13#hash%1675000000.1","openssl/3.0.8"],"build_requires":["cmake/3.25.0"],"python_requires":[]}`
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, conan.Locks{}, []inventorytest.Case{
		{Path: "1/conan.lock", Locked: true, Content: []byte(v1), Want: []string{"zlib 1.2.12", "own 0.1"}},
		{Path: "2/conan.lock", Locked: true, Content: []byte(v2), Want: []string{"zlib 1.2.13", "openssl 3.0.8", "cmake 3.25.0"}},
	}, []string{"vendor/conan.lock"})
}

func FuzzLock(f *testing.F) { inventorytest.Fuzz(f, conan.Locks{}, "conan.lock", v1, v2) }
