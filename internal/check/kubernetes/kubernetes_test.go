package kubernetes_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/check/kubernetes"
	"github.com/breakwater-sec/breakwater/internal/document"
)

func objects(t *testing.T, text string) []*kubernetes.Object {
	t.Helper()
	docs, err := document.ParseForeign("m.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return kubernetes.Objects(docs)
}

// TestEveryWorkloadHasItsPod, wherever its kind keeps the template.
func TestEveryWorkloadHasItsPod(t *testing.T) {
	const spec = `{containers: [{name: a, image: "r.test:5000/b:1@sha256:c"}]}`
	for kind, text := range map[string]string{
		"Pod": "spec: " + spec, "Deployment": "spec: {template: {spec: " + spec + "}}", "DaemonSet": "spec: {template: {spec: " + spec + "}}",
		"CronJob": "spec: {jobTemplate: {spec: {template: {spec: " + spec + "}}}}", "PodTemplate": "template: {spec: " + spec + "}", "Rollout": "spec: {template: {spec: " + spec + "}}",
	} {
		all := objects(t, "apiVersion: x/v1\nkind: "+kind+"\nmetadata: {generateName: n-}\n"+text)
		if len(all) != 1 || all[0].Pod == nil || len(all[0].Pod.Containers) != 1 || all[0].Name != "n-" || all[0].Group != "x" {
			t.Fatalf("%s: %+v", kind, all)
		}
		if c := all[0].Pod.Containers[0]; c.Repository != "r.test:5000/b" || c.Tag != "1" || c.Digest != "sha256:c" || c.Role != "main" {
			t.Errorf("%s: %+v", kind, c)
		}
	}
	if all := objects(t, "apiVersion: v1\nkind: Service\nspec: {type: NodePort}"); len(all) != 1 || all[0].Pod != nil || all[0].Type != "NodePort" {
		t.Errorf("%+v", all)
	}
}

// TestTheContainersWordRules over the pod's, and what nobody says is the API
// server's default.
func TestTheContainersWordRules(t *testing.T) {
	pod := objects(t, `apiVersion: v1
kind: Pod
metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/old: unconfined}}
spec:
  securityContext: {runAsUser: 10, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - {name: own, securityContext: {runAsUser: 0, runAsNonRoot: false, capabilities: {add: [CAP_SYS_ADMIN, net_raw], drop: [all]}}}
  - {name: old, ports: [{containerPort: 80, hostPort: 8080}], env: [{name: A, valueFrom: {secretKeyRef: {name: s}}}]}
  initContainers: [{name: first}]
  volumes: [{name: v, hostPath: {path: /var/../etc/}}, {name: e, emptyDir: {medium: Memory}}]
`)[0].Pod
	by := map[string]*kubernetes.Container{}
	for _, c := range pod.Containers {
		by[c.Name] = c
	}
	own, old, first := by["own"], by["old"], by["first"]
	if own.RunAsUser != 0 || own.RunAsNonRoot || own.Seccomp != "RuntimeDefault" || !slices.Equal(own.Added, []string{"SYS_ADMIN", "NET_RAW"}) || !slices.Equal(own.Dropped, []string{"ALL"}) {
		t.Errorf("%+v", own)
	}
	if old.RunAsUser != 10 || !old.RunAsNonRoot || old.AppArmor != "Unconfined" || !old.Escalation || old.Privileged || old.Ports[0].HostPort != 8080 || !old.Env[0].Secret {
		t.Errorf("%+v", old)
	}
	if first.Role != "init" || !pod.MountsToken || !pod.HostUsers || pod.HostNetwork || pod.FSGroup != kubernetes.Unset {
		t.Errorf("%+v %+v", first, pod)
	}
	if pod.Volumes[0].HostPath != "/etc" || pod.Volumes[0].Type != "hostPath" || pod.Volumes[1].Limited || pod.Volumes[1].Medium != "Memory" {
		t.Errorf("%+v", pod.Volumes)
	}
}

// TestTheOrderOfContainers is the file's, and always the same where all stand on
// one line.
func TestTheOrderOfContainers(t *testing.T) {
	for range 20 {
		names := ""
		for _, c := range objects(t, "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: b}, {name: c}], ephemeralContainers: [{name: d}], initContainers: [{name: a}]}")[0].Pod.Containers {
			names += c.Name
		}
		if names != "abcd" {
			t.Fatal(names)
		}
	}
}

func TestPeersOfNetworkPolicies(t *testing.T) {
	for spec, want := range map[string]string{
		"{podSelector: {}, ingress: [{}], egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0}}]}]}":         "true true true",
		"{podSelector: {matchLabels: {a: b}}, ingress: [{from: [{podSelector: {}}]}], egress: []}": "false false false",
		"{podSelector: , ingress: [{ports: [{port: 80}]}]}":                                        "true false false",
	} {
		o := objects(t, "apiVersion: v1\nkind: NetworkPolicy\nspec: "+spec)[0]
		if got := fmt.Sprintf("%v %v %v", o.AllPods, o.AllIngress, o.AllEgress); got != want {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
}

// TestListsAreTakenApart, and those in lists in lists, as deep as anybody writes;
// what is no object is left out.
func TestListsAreTakenApart(t *testing.T) {
	nested := "{apiVersion: v1, kind: Pod}"
	for range 10 {
		nested = "{apiVersion: v1, kind: List, items: [" + nested + "]}"
	}
	for text, want := range map[string]int{
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod}, {kind: Pod}, 7, {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Secret}]}]": 2,
		"a: b\n---\napiVersion: v1\nkind: Pod\n---\n- x\n---\nx": 1, nested: 0, "apiVersion: [v1]\nkind: Pod": 0,
		"apiVersion: v1\nkind: List\nitems: [" + strings.Repeat("{apiVersion: v1, kind: Pod},", 25_000) + "]": 20_000,
	} {
		if got := len(objects(t, text)); got != want {
			t.Errorf("%.80s: %d objects, want %d", text, got, want)
		}
	}
}

func FuzzObjects(f *testing.F) {
	for _, seed := range []string{
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod, spec: {containers: [{name: a, image: \"b:c@d\"}]}}]",
		"apiVersion: v1\nkind: Pod\nspec: {containers: [{securityContext: [], ports: {}}, 1], volumes: [1, {name: {}}], securityContext: {sysctls: [{name: [a]}]}}",
		"apiVersion: rbac/v1\nkind: Role\nrules: [{verbs: \"*\"}, [], 1]\n---\napiVersion: v1\nkind: NetworkPolicy\nspec: {podSelector: {}, ingress: [{}], egress: {}}",
		"apiVersion: v1\nkind: Secret\ndata: {a: [b]}\nstringData: x\n---\napiVersion: v1\nkind: CronJob\nspec: {jobTemplate: {spec: {template: {spec: {containers: &c [{name: a}], initContainers: *c}}}}}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, _ := document.ParseForeign("f", data) // those that are right are there all the same
		all := kubernetes.Objects(docs)
		if len(all) > 20_000 {
			t.Errorf("%d objects", len(all))
		}
		for _, o := range all {
			if o.Node == nil || o.APIVersion == "" || o.Kind == "" {
				t.Errorf("%+v is no object", o)
			}
			if o.HostPath != "" && !strings.HasPrefix(o.HostPath, "/") {
				t.Errorf("the path %q is not clean", o.HostPath)
			}
			if o.Pod == nil {
				continue
			}
			for _, c := range o.Pod.Containers {
				if c.Node == nil || !slices.Contains([]string{"main", "init", "ephemeral"}, c.Role) || !strings.HasPrefix(c.Image, c.Repository) {
					t.Errorf("%+v", c)
				}
			}
		}
	})
}
