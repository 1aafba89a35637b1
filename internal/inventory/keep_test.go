package inventory

import (
	"io"
	"reflect"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
)

type anything struct{}

func (anything) Wants(string, Info) bool               { return true }
func (anything) Extract(File) ([]event.Package, error) { return nil, io.EOF }

// TestKeptPackagesAreWhole: a field that is new in event.Package is kept too.
func TestKeptPackagesAreWhole(t *testing.T) {
	var p event.Package
	v := reflect.ValueOf(&p).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("\xff " + v.Type().Field(i).Name)
		case reflect.Int:
			f.SetInt(300)
		case reflect.Bool:
			f.SetBool(true)
		default:
			f.Set(reflect.ValueOf([]string{"a", "", "b"}))
		}
	}
	e := NewEngine(Key{}, nil, []Driver{anything{}})
	l := e.NewLayer()
	distro := Distro{ID: "debian", Version: "12"}
	l.found["\xff"] = &evidence{driver: anything{}, packages: []event.Package{p, {}, p}, owner: "o"}
	l.found["os"] = &evidence{distro: &distro}
	l.present, l.dirs = []uint64{3, 1 << 63, 2}, []uint64{1}
	l.removed["gone\n"], l.opaque[""] = true, true
	l.gaps, l.moreGaps = []string{"a gap"}, 70_000
	data, err := l.Keep()
	if err != nil {
		t.Fatal(err)
	}
	again, err := e.Restore(data)
	if err != nil {
		t.Fatal(err)
	}
	l.found["os"].packages = []event.Package{}
	if !reflect.DeepEqual(l, again) {
		t.Errorf("kept %+v, restored %+v", l, again)
	}
	for n := range data { // cut anywhere, it is refused
		if _, err := e.Restore(data[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are taken for a layer", n, len(data))
		}
	}
	if _, err := e.Restore(append(data, 0)); err == nil {
		t.Error("what follows a layer is taken for a part of it")
	}
}
