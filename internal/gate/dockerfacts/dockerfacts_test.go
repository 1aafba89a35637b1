package dockerfacts_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/gate/dockerfacts"
	"github.com/breakwater-sec/breakwater/internal/policy"
)

// things is an engine that knows a few containers and volumes.
type things struct{ containers, volumes map[string]string }

func (e things) Container(_ context.Context, id string) ([]byte, error) {
	return find(e.containers, id)
}
func (e things) Volume(_ context.Context, name string) ([]byte, error) { return find(e.volumes, name) }

func find(in map[string]string, name string) ([]byte, error) {
	if text, ok := in[name]; ok {
		return []byte(text), nil
	}
	return nil, fmt.Errorf("%s: %w", name, dockerfacts.ErrNotFound)
}

var plainHost = dockerfacts.Host{CgroupV1: true, Seccomp: "default", AppArmor: "docker-default"}

func TestCreate(t *testing.T) {
	engine := things{
		containers: map[string]string{
			"hostly": `{"Id":"1","HostConfig":{"PidMode":"host"}}`,
			"chain":  `{"Id":"2","HostConfig":{"PidMode":"container:hostly"}}`,
			"ring":   `{"Id":"3","HostConfig":{"IpcMode":"container:ring"}}`,
			"full":   `{"Id":"4","HostConfig":{},"Mounts":[{"Type":"bind","Source":"/srv/x","Destination":"/x","RW":true}]}`,
		},
		volumes: map[string]string{
			"plain": `{"Name":"plain","Driver":"local","Options":null}`,
			"bound": `{"Name":"bound","Driver":"local","Options":{"type":"none","o":"rw,bind","device":"/srv/y"}}`,
		},
	}
	for _, c := range []struct {
		name, config string
		want         func(*policy.StartFacts)
	}{
		{"nothing", `{}`, func(*policy.StartFacts) {}},
		{"privileged", `{"Privileged":true}`, func(f *policy.StartFacts) {
			f.Privileged, f.Seccomp, f.AppArmor, f.Container.Privileged = true, "unconfined", "unconfined", true
		}},
		{"any case", `{"pRIVILEGED":true}`, func(f *policy.StartFacts) {
			f.Privileged, f.Seccomp, f.AppArmor, f.Container.Privileged = true, "unconfined", "unconfined", true
		}},
		{"limits", `{"Memory":1024,"PidsLimit":5,"CpuQuota":50000,"ReadonlyRootfs":true,"CgroupParent":"/x"}`, func(f *policy.StartFacts) {
			f.MemoryLimit, f.PidsLimit, f.CPULimit, f.ReadOnlyRootfs, f.CgroupParent = 1024, 5, 0.5, true, "/x"
		}},
		{"no limits", `{"Memory":-1,"PidsLimit":-1,"NanoCpus":0}`, func(*policy.StartFacts) {}},
		{"capabilities as a word, in lower case", `{"CapAdd":"cap_sys_admin"}`, func(f *policy.StartFacts) {
			f.AddCapabilities = []string{"SYS_ADMIN"}
			f.Container.Capabilities = f.AddCapabilities
		}},
		{"host namespaces", `{"PidMode":"host","NetworkMode":"host","CgroupnsMode":"host"}`, func(f *policy.StartFacts) {
			f.HostNamespaces, f.Container.HostPID = []string{"pid", "net", "cgroup"}, true
		}},
		{"joined through two containers", `{"PidMode":"container:chain"}`, func(f *policy.StartFacts) {
			f.HostNamespaces, f.Container.HostPID = []string{"pid"}, true
			f.SecurityOptions = []string{"pid=container:chain"}
		}},
		{"joined in a ring", `{"IpcMode":"container:ring"}`, func(f *policy.StartFacts) {
			f.HostNamespaces, f.SecurityOptions = []string{"ipc"}, []string{"ipc=container:ring"}
		}},
		{"security options", `{"SecurityOpt":["no-new-privileges:true","seccomp={\"defaultAction\":\"x\"}","apparmor=unconfined"],"MaskedPaths":[]}`, func(f *policy.StartFacts) {
			f.NoNewPrivileges, f.Seccomp, f.AppArmor = true, "custom", "unconfined"
			f.SecurityOptions = []string{"no-new-privileges:true", "seccomp=custom", "apparmor=unconfined", "systempaths=unconfined"}
		}},
		{"the last security option wins", `{"SecurityOpt":["no-new-privileges","no-new-privileges=false"]}`, func(f *policy.StartFacts) {
			f.SecurityOptions = []string{"no-new-privileges", "no-new-privileges=false"}
		}},
		{"binds", `{"Binds":["/srv/a/../b:/b:ro,z","plain:/p","bound:/q","new:/n"]}`, func(f *policy.StartFacts) {
			f.Mounts = []policy.Mount{
				{Source: "/srv/b", Target: "/b", Type: "bind", ReadOnly: true},
				{Target: "/n", Type: "volume"}, {Target: "/p", Type: "volume"}, {Target: "/q", Type: "volume"},
				{Source: "/srv/y", Target: "/q", Type: "bind"},
			}
		}},
		{"volumes from", `{"VolumesFrom":["full:ro"]}`, func(f *policy.StartFacts) {
			f.Mounts = []policy.Mount{{Source: "/srv/x", Target: "/x", Type: "bind", ReadOnly: true}}
		}},
		{"devices", `{"Devices":[{"PathOnHost":"/dev/kmsg"}],"DeviceCgroupRules":["c 1:1 rwm"],"DeviceRequests":[{"Driver":"nvidia","Capabilities":[["gpu"]]}]}`, func(f *policy.StartFacts) {
			f.Devices = []string{"/dev/kmsg", "cgroup-rule:c 1:1 rwm", "request:nvidia:gpu"}
		}},
		{"some system paths unmasked", `{"MaskedPaths":["/nothing"],"ReadonlyPaths":["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]}`, func(f *policy.StartFacts) {
			f.SecurityOptions = []string{"systempaths=unconfined"}
		}},
		{"more paths masked", `{"MaskedPaths":["/proc/kcore","/proc/keys","/proc/timer_list","/proc/scsi","/sys/firmware","/x"]}`, func(*policy.StartFacts) {}},
		{"an image as a mount", `{"Mounts":[{"Type":"image","Source":"other:1","Target":"/o"}]}`, func(f *policy.StartFacts) {
			f.Mounts = []policy.Mount{{Image: "other:1", Target: "/o", Type: "image"}}
		}},
		{"annotations and logs elsewhere", `{"Annotations":{"b":"2","a":"1"},"LogConfig":{"Type":"gelf","Config":{"gelf-address":"udp://192.0.2.1:1"}}}`, func(f *policy.StartFacts) {
			f.SecurityOptions = []string{"annotation=a", "annotation=b", "log=gelf"}
		}},
		{"another runtime", `{"Runtime":"mine"}`, func(f *policy.StartFacts) { f.SecurityOptions = []string{"runtime=mine"} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inner := fmt.Sprintf(`{"Image":"img:1","HostConfig":%s}`, c.config)
			got, image, err := dockerfacts.Create(t.Context(), "n", []byte(inner), plainHost, engine)
			if err != nil || image != "img:1" {
				t.Fatalf("image %q: %v", image, err)
			}
			want := policy.StartFacts{Seccomp: "default", AppArmor: "docker-default"}
			want.Image.References = []string{"img:1"}
			want.Container.Name, want.Container.Engine, want.Container.Image = "n", "docker", want.Image
			c.want(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("facts:\n%+v\nwant:\n%+v", got, want)
			}
			outer := `{"Image":"img:1"` + strings.Replace(","+c.config[1:], ",}", "}", 1)
			same, _, err := dockerfacts.Create(t.Context(), "n", []byte(outer), plainHost, engine)
			if err != nil || !reflect.DeepEqual(same, got) {
				t.Errorf("outside of HostConfig: %v\n%+v", err, same)
			}
		})
	}
}

func TestStrict(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"a":1,"b":{"a":1}}`, ""},
		{`{"Labels":{"a":"1","A":"2"}}`, ""},
		{`{"a":1,"a":1}`, "twice"},
		{`{"Labels":{"a":"1","a":"2"}}`, "twice"},
		{`{"HostConfig":1,"hostconfig":2}`, "twice"},
		{"{\"k\":1,\"\u212a\":2}", "twice"},
		{`{"x":[{"a":1,"A":2}]}`, "twice"},
		{`{}{}`, "follows"},
		{`{} `, ""},
		{`[]`, "not a JSON object"},
		{`{"a":}`, "not JSON"},
		{``, "not JSON"},
		{strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), "deeper"},
	} {
		err := dockerfacts.Strict([]byte(c.body))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.60s: %v, want %q", c.body, err, c.want)
		}
	}
}

func TestInspectOnCgroupV1(t *testing.T) {
	raw := []byte(`{"Id":"abc","Name":"/x","Image":"sha256:1","Config":{"Image":"i","Labels":{"com.docker.compose.project":"p","com.docker.compose.service":"s"}},"HostConfig":{"CgroupnsMode":"host"}}`)
	got, err := dockerfacts.Inspect(t.Context(), raw, plainHost, nil)
	if err != nil || len(got.HostNamespaces) != 0 || got.Container.Workload != "p/s" || got.Container.Name != "x" || got.Image.Digest != "sha256:1" {
		t.Errorf("%v: %+v", err, got)
	}
	v2 := plainHost
	v2.CgroupV1 = false
	if got, err = dockerfacts.Inspect(t.Context(), raw, v2, nil); err != nil || !slices.Equal(got.HostNamespaces, []string{"cgroup"}) {
		t.Errorf("%v: %+v", err, got.HostNamespaces)
	}
	if _, err := dockerfacts.Inspect(t.Context(), []byte(`{}`), plainHost, nil); err == nil {
		t.Error("an inspection of nothing was read")
	}
}

func TestBuildAndUpdate(t *testing.T) {
	asked, plain := dockerfacts.Build(url.Values{"networkmode": {"host"}, "memory": {"1000"}}, plainHost)
	if !slices.Equal(asked.HostNamespaces, []string{"net"}) || asked.MemoryLimit != 1000 || !asked.Container.Build || len(plain.HostNamespaces) != 0 {
		t.Errorf("asked %+v\nplain %+v", asked, plain)
	}
	before := policy.StartFacts{MemoryLimit: 10, PidsLimit: 10, CPULimit: 1}
	after, err := dockerfacts.Update(before, []byte(`{"Memory":0,"PidsLimit":-1,"NanoCpus":0}`))
	if err != nil || after.MemoryLimit != 10 || after.PidsLimit != 0 || after.CPULimit != 1 {
		t.Errorf("%v: %+v", err, after)
	}
}

// FuzzCreate holds what the gate reads against what the engine's own decoder
// makes of the same bytes: a body that the gate accepts as harmless must not be
// privileged to the engine.
func FuzzCreate(f *testing.F) {
	for _, seed := range []string{
		`{"Image":"x","HostConfig":{"Privileged":true}}`, `{"image":"x","hostconfig":{"privileged":true}}`,
		`{"Image":"x","Privileged":true}`, `{"HostConfig":{},"ho\u017ftconfig":{"Privileged":true}}`, `{"HostConfig":null,"Privileged":true}`,
		`{"HostConfig":{"Binds":["a:b:c:d"]}}`, `{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/etc"}]}}`,
		`{"HostConfig":{"CapAdd":"x","SecurityOpt":["seccomp=unconfined"]}}{}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		facts, _, err := dockerfacts.Create(t.Context(), "", body, plainHost, things{})
		if err != nil {
			return
		}
		var engine struct {
			Privileged bool
			HostConfig *struct {
				Privileged bool
				Binds      []string
			}
		}
		if err := json.NewDecoder(strings.NewReader(string(body))).Decode(&engine); err != nil {
			return
		}
		privileged := engine.HostConfig == nil && engine.Privileged || engine.HostConfig != nil && engine.HostConfig.Privileged
		if privileged && !facts.Privileged {
			t.Errorf("the engine sees a privileged container, the gate does not: %q", body)
		}
		if engine.HostConfig != nil && len(engine.HostConfig.Binds) > 0 && len(facts.Mounts) == 0 {
			t.Errorf("the engine sees mounts, the gate does not: %q", body)
		}
	})
}

// What a volume's mount options bring in of the host.
func TestVolumeOptions(t *testing.T) {
	for _, c := range []struct {
		options string
		want    []string
	}{
		{"type=none o=bind device=/srv/x", []string{"/srv/x"}},
		{"type=none o=bind device=srv/x", []string{"/"}},
		{"o=rbind,ro device=../../etc", []string{"/"}},
		{"type=tmpfs o=bind device=etc", []string{"/"}},
		{"type=ext4 device=/dev/none1", []string{"/", "/dev/none1"}},
		{"type=ext4 device=../dev/none1", []string{"/"}},
		{"type=ext4 device=/srv/volume/a-node-that-a-container-made", []string{"/", "/srv/volume/a-node-that-a-container-made"}},
		{"type=overlay device=overlay o=lowerdir=etc:/srv,upperdir=u", []string{"/", "/srv"}},
		{"type=proc device=proc", []string{"/proc"}},
		{"type=devtmpfs device=x", []string{"/dev"}},
		{"type=cgroup2 device=/srv", []string{"/srv", "/sys/fs/cgroup"}},
		{"type=tmpfs device=tmpfs o=size=1m,uid=1000", nil},
		{"type=nfs device=:/export o=addr=192.0.2.1,rw", nil},
		{"type=unheard-of device=x", []string{"/"}},
	} {
		options := map[string]string{}
		for pair := range strings.FieldsSeq(c.options) {
			key, value, _ := strings.Cut(pair, "=")
			options[key] = value
		}
		raw, err := json.Marshal(options)
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Appendf(nil, `{"Image":"x","HostConfig":{"Mounts":[{"Type":"volume","Target":"/x","VolumeOptions":{"DriverConfig":{"Name":"local","Options":%s}}}]}}`, raw)
		facts, _, err := dockerfacts.Create(t.Context(), "", body, dockerfacts.Host{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range facts.Mounts {
			if m.Type == "bind" {
				got = append(got, m.Source)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.options, got, c.want)
		}
	}
}
