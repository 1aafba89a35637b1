package bitnami_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/bitnami"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const document = `{"spdxVersion":"SPDX-2.3","packages":[
{"SPDXID":"SPDXRef-Package-redis","name":"redis","versionInfo":"7.0.11","licenseDeclared":"BSD-3-Clause","externalRefs":[{"referenceCategory":"SECURITY","referenceType":"cpe23Type","referenceLocator":"cpe:2.3:*:redis:redis:7.0.11:*:*:*:*:*:*:*"},{"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"pkg:bitnami/redis@7.0.11-1?arch=amd64&distro=debian-11"}]},
{"SPDXID":"x","name":"lua","versionInfo":"5.1","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:generic/lua@5.1"}]}]}`

func TestConformance(t *testing.T) {
	inventorytest.Run(t, bitnami.Driver{}, []inventorytest.Case{
		{Path: "opt/bitnami/redis/.spdx-redis.spdx", Content: []byte(document), Want: []string{"redis 7.0.11-1"}},
	}, []string{"opt/bitnami/redis/redis.spdx", "srv/.spdx-redis.spdx"})
}

func FuzzDocument(f *testing.F) {
	inventorytest.Fuzz(f, bitnami.Driver{}, "opt/bitnami/a/.spdx-a.spdx", document)
}
