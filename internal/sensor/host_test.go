package sensor

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestContainerID(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for path, want := range map[string]string{
		"/docker/" + id:                                  id,
		"/system.slice/docker-" + id + ".scope":          id,
		"/kubepods/besteffort/pod1/cri-containerd-" + id: id,
		"/machine.slice/libpod-" + id + ".scope":         id,
		"/machine.slice/libpod-conmon-" + id + ".scope":  "",
		"/crio-conmon-" + id + ".scope":                  "",
		"/docker/" + id[:63]:                             "",
		"/docker/" + id + "0":                            "",
		"/docker/" + strings.ToUpper(id):                 "",
		"/user.slice":                                    "",
		"/docker-" + id + ".service":                     "",
		"/":                                              "",
		"/kubepods.slice/crio-" + id + ".scope":          id,
	} {
		if got := ContainerID(path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestReadCgroupMounts(t *testing.T) {
	got, err := readCgroupMounts(strings.NewReader(`30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 /docker/x /elsewhere rw - cgroup cgroup rw,pids
short line
`))
	if err != nil {
		t.Fatal(err)
	}
	if got["unified"] != "/sys/fs/cgroup/unified" || got["memory"] != "/sys/fs/cgroup/memory" || got["cpu"] != "/sys/fs/cgroup/cpu,cpuacct" || got["pids"] != "" {
		t.Errorf("%v", got)
	}
}

func TestReadControllers(t *testing.T) {
	got, err := readControllers(strings.NewReader("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\ncpu\t1\t1\t1\nmemory\t4\t9\t1\n"))
	if err != nil || got["memory"] != (controller{index: 2, hierarchy: 4}) {
		t.Errorf("%v %v", got, err)
	}
	if _, err := readControllers(strings.NewReader("cpu x 1 1\n")); err == nil {
		t.Error("a hierarchy that is no number was accepted")
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1"
	got, err := parseStat([]byte(line))
	if err != nil || got != (stat{comm: "a) b (c)", ppid: 7, start: 123450000000}) {
		t.Errorf("%+v %v", got, err)
	}
	for _, bad := range []string{"", "42", "42 (x", ") (", "1 (x) S 1", "1 (x) S y 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if p, err := ReadProcess(os.Getpid()); err != nil || p.PID != os.Getpid() || p.Path == "" || p.ParentID == "" {
		t.Errorf("self: %+v %v", p, err)
	}
}

func TestLoadSaysWhatIsMissing(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("runs as root")
	}
	_, err := Load(t.Context(), Options{})
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "root") {
		t.Errorf("%v", err)
	}
}

// A folder belongs to one hierarchy, whichever the host's containers are told apart
// by at the moment.
func TestHierarchyOfAFolder(t *testing.T) {
	mounts, err := cgroupMounts()
	if err != nil {
		t.Fatal(err)
	}
	unified := mounts[unifiedName]
	v1, err := V1Hierarchy("hybrid", mounts)
	if unified == "" || err != nil {
		t.Log("not a hybrid host: there is only one hierarchy to choose")
		return
	}
	for _, root := range []string{unified, v1.Root} {
		h, err := hierarchyOf(root + "/some/folder")
		if err != nil || h.Root != root {
			t.Errorf("a folder below %s is said to be of %s (%v)", root, h.Root, err)
		}
	}
	if h := (Hierarchy{Root: unified}); h.holds(unified+"-other/folder") || !h.holds(unified+"/x") || !h.holds("") {
		t.Error("a folder is a hierarchy's by its name's beginning only")
	}
}
