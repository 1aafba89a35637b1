package conda_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/conda"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const (
	record = `{"build":"h1","build_number":0,"channel":"https://example.org/main/linux-64","files":["lib/a"],"license":"Zlib","name":"zlib","subdir":"linux-64","version":"1.2.13"}`
	lock   = "version: 1\nmetadata:\n  channels:\n  - url: x\n    name: no\n    version: 1\npackage:\n- name: zlib\n  version: 1.2.13\n  manager: conda\n  platform: linux-64\n  dependencies:\n    libgcc: '>=12'\n- name: Flask_Login\n  version: 0.6.2\n  manager: pip\n  platform: linux-64\n"
	env    = "name: app\nchannels:\n  - defaults\ndependencies:\n  - python=3.9.7=h12debd9_1\n  - numpy=1.21\n  - conda-forge::zlib==1.2.11\n  - pip:\n    - flask==1.0\n    - open>=1\n  - xz=5.2.5=h7b6447c_0\nprefix: /opt/x\n"
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, conda.Driver{}, []inventorytest.Case{
		{Path: "opt/conda/conda-meta/zlib-1.2.13-h1.json", Content: []byte(record), Want: []string{"zlib 1.2.13"}},
	}, []string{"opt/conda/pkgs/x.json", "a-conda-meta/x.json", "conda-meta/history"})
	inventorytest.Run(t, conda.Locks{}, []inventorytest.Case{
		{Path: "app/conda-lock.yml", Locked: true, Content: []byte(lock), Want: []string{"zlib 1.2.13", "flask-login 0.6.2"}},
		{Path: "app/environment.yml", Locked: true, Content: []byte(env), Want: []string{"python 3.9.7", "zlib 1.2.11", "flask 1.0", "xz 5.2.5"}},
	}, []string{"app/node_modules/x/environment.yml"})
}

func FuzzRecord(f *testing.F)      { inventorytest.Fuzz(f, conda.Driver{}, "conda-meta/a.json", record) }
func FuzzLock(f *testing.F)        { inventorytest.Fuzz(f, conda.Locks{}, "conda-lock.yml", lock) }
func FuzzEnvironment(f *testing.F) { inventorytest.Fuzz(f, conda.Locks{}, "environment.yml", env) }
