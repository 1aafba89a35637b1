// Package kubernetes reads Kubernetes manifests for checks: several documents
// and Lists, the pods of every kind of workload with the defaults that the API
// server would fill in, access rules, services, ingresses and network policies.
// Fields are those of the Kubernetes API reference; a field that is missing or
// has another kind reads as its default, because clusters accept what this
// version does not know.
package kubernetes

import "github.com/breakwater-sec/breakwater/internal/document"

// Unset stands for a whole number that the manifest does not give.
const Unset = -1

// Object is one object of a manifest.
type Object struct {
	APIVersion  string            `json:"apiVersion"`
	Group       string            `json:"group"` // of apiVersion; "" for the core
	Kind        string            `json:"kind"`
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Data        map[string]string `json:"data"` // of a ConfigMap; of a Secret data and stringData
	RoleRef     string            `json:"roleRef"`
	RoleKind    string            `json:"roleKind"`
	Subjects    []Subject         `json:"subjects"`
	Type        string            `json:"type"`        // of a Service or Secret
	ExternalIPs []string          `json:"externalIPs"` // of a Service
	Sources     []string          `json:"sources"`     // loadBalancerSourceRanges of a Service
	TLS         bool              `json:"tls"`         // of an Ingress: it has a tls entry
	Hosts       []string          `json:"hosts"`       // of an Ingress; "" for a rule without one
	HostPath    string            `json:"hostPath"`    // of a PersistentVolume
	AllPods     bool              `json:"allPods"`     // of a NetworkPolicy: it selects every pod
	AllIngress  bool              `json:"allIngress"`  // of a NetworkPolicy: a rule lets everything in
	AllEgress   bool              `json:"allEgress"`   // of a NetworkPolicy: a rule lets everything out
	MountsToken bool              `json:"mountsToken"` // of a ServiceAccount; true unless switched off
	FailOpen    bool              `json:"failOpen"`    // of a webhook configuration: failurePolicy Ignore
	Replicas    int               `json:"replicas"`    // of a workload; Unset when not given

	Node  *document.Node `json:"-"`
	Rules []Rule         `json:"-"` // of a Role or ClusterRole
	Pod   *Pod           `json:"-"` // of a workload
}

// Subject is one of a role binding.
type Subject struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

// Rule is one rule of a Role or ClusterRole.
type Rule struct {
	APIGroups       []string `json:"apiGroups"`
	Resources       []string `json:"resources"`
	Verbs           []string `json:"verbs"`
	ResourceNames   []string `json:"resourceNames"`
	NonResourceURLs []string `json:"nonResourceURLs"`

	Node *document.Node `json:"-"`
}

// Pod is the pod that a workload makes.
type Pod struct {
	ServiceAccount string            `json:"serviceAccount"`
	MountsToken    bool              `json:"mountsToken"` // the service account's; true unless switched off
	HostNetwork    bool              `json:"hostNetwork"`
	HostPID        bool              `json:"hostPID"`
	HostIPC        bool              `json:"hostIPC"`
	HostUsers      bool              `json:"hostUsers"` // true unless switched off
	ShareProcesses bool              `json:"shareProcesses"`
	RunAsUser      int               `json:"runAsUser"`
	RunAsNonRoot   bool              `json:"runAsNonRoot"`
	FSGroup        int               `json:"fsGroup"`
	Groups         []string          `json:"supplementalGroups"`
	Seccomp        string            `json:"seccomp"` // RuntimeDefault, Localhost, Unconfined or ""
	Sysctls        []string          `json:"sysctls"`
	Volumes        []Volume          `json:"volumes"`
	HostAliases    int               `json:"hostAliases"`
	HostProcess    bool              `json:"hostProcess"` // Windows
	PriorityClass  string            `json:"priorityClass"`
	NodeName       string            `json:"nodeName"`
	Tolerations    []string          `json:"tolerations"` // keys; "" tolerates everything
	Labels         map[string]string `json:"labels"`
	Annotations    map[string]string `json:"annotations"`

	Node       *document.Node `json:"-"`
	Containers []*Container   `json:"-"`
}

// Volume is one volume of a pod.
type Volume struct {
	Name     string `json:"name"`
	Type     string `json:"type"`     // hostPath, emptyDir, secret, configMap, projected, …
	HostPath string `json:"hostPath"` // cleaned
	Medium   string `json:"medium"`   // of emptyDir
	Limited  bool   `json:"limited"`  // emptyDir has a sizeLimit
	Mode     int    `json:"mode"`     // defaultMode of a secret, as written; Unset
}

// Container is one container of a pod, with what the pod's security context
// says for it.
type Container struct {
	Name           string            `json:"name"`
	Role           string            `json:"role"` // main, init, ephemeral
	Image          string            `json:"image"`
	Repository     string            `json:"repository"`
	Tag            string            `json:"tag"`
	Digest         string            `json:"digest"`
	PullPolicy     string            `json:"pullPolicy"`
	Command        []string          `json:"command"` // command and args
	Env            []Variable        `json:"env"`
	EnvFromSecrets []string          `json:"envFromSecrets"`
	Ports          []Port            `json:"ports"`
	Mounts         []Mount           `json:"mounts"`
	Privileged     bool              `json:"privileged"`
	Escalation     bool              `json:"allowPrivilegeEscalation"` // true unless switched off
	ReadOnlyRoot   bool              `json:"readOnlyRootFilesystem"`
	RunAsUser      int               `json:"runAsUser"`
	RunAsGroup     int               `json:"runAsGroup"`
	RunAsNonRoot   bool              `json:"runAsNonRoot"`
	Added          []string          `json:"addedCapabilities"` // upper case, without CAP_
	Dropped        []string          `json:"droppedCapabilities"`
	Seccomp        string            `json:"seccomp"`
	AppArmor       string            `json:"apparmor"`    // RuntimeDefault, Localhost, Unconfined or ""
	SELinuxType    string            `json:"selinuxType"` // "" when not given
	SELinuxUser    string            `json:"selinuxUser"` // user and role, joined
	ProcMount      string            `json:"procMount"`   // "" when not given
	HostProcess    bool              `json:"hostProcess"`
	Requests       map[string]string `json:"requests"`
	Limits         map[string]string `json:"limits"`
	Liveness       bool              `json:"livenessProbe"`
	Readiness      bool              `json:"readinessProbe"`

	Node *document.Node `json:"-"`
}

// Variable is one environment variable.
type Variable struct {
	Name   string `json:"name"`
	Value  string `json:"value"`  // as written in the manifest
	Secret bool   `json:"secret"` // taken from a Secret
}

// Port is one port of a container.
type Port struct {
	Port     int `json:"port"`
	HostPort int `json:"hostPort"` // 0 for none
}

// Mount is one volume mount.
type Mount struct {
	Name        string `json:"name"`
	Path        string `json:"path"`
	ReadOnly    bool   `json:"readOnly"`
	SubPath     string `json:"subPath"`
	Propagation string `json:"propagation"`
}

// maxObjects is how many objects of one file are read.
const maxObjects = 20_000

// Objects reads the objects of documents; what is none, such as values of a
// chart, is left out. Lists are taken apart.
func Objects(docs []*document.Node) []*Object {
	var list []*Object
	for _, doc := range docs {
		list = appendObjects(list, doc, 0)
	}
	return list
}

// IsObject says whether a document is an object of the Kubernetes API.
func IsObject(doc *document.Node) bool {
	return doc.Field("apiVersion").Scalar() != "" && doc.Field("kind").Scalar() != ""
}

func appendObjects(list []*Object, doc *document.Node, depth int) []*Object {
	const deepest = 3
	if !IsObject(doc) || len(list) >= maxObjects || depth > deepest {
		return list
	}
	items := doc.Field("items")
	if items == nil || items.Kind != document.List {
		return append(list, object(doc))
	}
	for _, item := range items.Items {
		list = appendObjects(list, item, depth+1)
	}
	return list
}
