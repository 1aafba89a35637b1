package swift_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/swift"
)

const (
	v1  = `{"object":{"pins":[{"package":"swift-nio","repositoryURL":"https://github.com/apple/swift-nio.git","state":{"branch":null,"revision":"a","version":"2.40.0"}}]},"version":1}`
	v3  = `{"originHash":"x","pins":[{"identity":"vapor","kind":"remoteSourceControl","location":"https://github.com/vapor/vapor","state":{"revision":"b","version":"4.60.0"}},{"identity":"b","kind":"remoteSourceControl","location":"https://github.com/x/b","state":{"branch":"main","revision":"c"}}],"version":3}`
	pod = "PODS:\n  - AFNetworking (4.0.1):\n    - AFNetworking/NSURLSession (= 4.0.1)\n  - AFNetworking/NSURLSession (4.0.1)\n  - \"GoogleUtilities/Logger (7.7.0)\"\n\nDEPENDENCIES:\n  - AFNetworking (~> 4.0)\n\nSPEC CHECKSUMS:\n  AFNetworking: 00\n\nCOCOAPODS: 1.11.3\n"
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, swift.Locks{}, []inventorytest.Case{
		{Path: "1/Package.resolved", Locked: true, Content: []byte(v1), Want: []string{"github.com/apple/swift-nio 2.40.0"}},
		{Path: "3/Package.resolved", Locked: true, Content: []byte(v3), Want: []string{"github.com/vapor/vapor 4.60.0"}},
		{Path: "Podfile.lock", Locked: true, Content: []byte(pod), Want: []string{"AFNetworking 4.0.1", "GoogleUtilities 7.7.0"}},
	}, []string{"app/Pods/x/Podfile.lock"})
}

func FuzzResolved(f *testing.F) { inventorytest.Fuzz(f, swift.Locks{}, "Package.resolved", v1, v3) }
func FuzzPods(f *testing.F)     { inventorytest.Fuzz(f, swift.Locks{}, "Podfile.lock", pod) }
