package perl_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/perl"
)

const record = `{"dist":"Mojolicious-9.31","name":"Mojolicious","pathname":"S/SR/SRI/Mojolicious-9.31.tar.gz","provides":{"Mojo":{"file":"lib/Mojo.pm"}},"target":"Mojolicious","version":"9.31"}`

func TestConformance(t *testing.T) {
	inventorytest.Run(t, perl.Driver{}, []inventorytest.Case{
		{Path: "usr/local/lib/perl5/site_perl/5.36.0/x86_64-linux-gnu/.meta/Mojolicious-9.31/install.json", Content: []byte(record), Want: []string{"Mojolicious 9.31"}},
	}, []string{"app/install.json"})
}

func FuzzRecord(f *testing.F) {
	inventorytest.Fuzz(f, perl.Driver{}, "lib/.meta/a-1/install.json", record)
}
