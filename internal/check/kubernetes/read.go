package kubernetes

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/document"
)

func object(n *document.Node) *Object {
	meta := n.Field("metadata")
	o := &Object{
		APIVersion: n.Field("apiVersion").Scalar(), Kind: n.Field("kind").Scalar(), Node: n,
		Name: meta.Field("name").Scalar(), Namespace: meta.Field("namespace").Scalar(),
		Labels: meta.Field("labels").Texts(), Annotations: meta.Field("annotations").Texts(),
		RoleRef: n.Field("roleRef", "name").Scalar(), RoleKind: n.Field("roleRef", "kind").Scalar(), Subjects: []Subject{},
		Data: n.Field("data").Texts(), MountsToken: n.Field("automountServiceAccountToken").Truth(true),
		Replicas: n.Field("spec", "replicas").Whole(Unset), ExternalIPs: []string{}, Sources: []string{}, Hosts: []string{},
	}
	if o.Name == "" {
		o.Name = meta.Field("generateName").Scalar()
	}
	if i := strings.IndexByte(o.APIVersion, '/'); i >= 0 {
		o.Group = o.APIVersion[:i]
	}
	maps.Copy(o.Data, n.Field("stringData").Texts())
	for _, s := range n.Field("subjects").Elements() {
		o.Subjects = append(o.Subjects, Subject{s.Field("kind").Scalar(), s.Field("name").Scalar(), s.Field("namespace").Scalar()})
	}
	o.network(n)
	o.others(n)
	if spec, labels, annotations := podOf(o, n); spec != nil {
		o.Pod = pod(spec, labels, annotations)
	}
	return o
}

// network reads what Services, Ingresses and NetworkPolicies have.
func (o *Object) network(n *document.Node) {
	spec := n.Field("spec")
	switch o.Kind {
	case "Service":
		o.Type = spec.Field("type").Scalar()
		o.ExternalIPs = list(spec.Field("externalIPs"))
		o.Sources = list(spec.Field("loadBalancerSourceRanges"))
	case "Ingress":
		o.TLS = len(spec.Field("tls").Elements()) > 0
		for _, rule := range spec.Field("rules").Elements() {
			o.Hosts = append(o.Hosts, rule.Field("host").Scalar())
		}
	case "NetworkPolicy":
		o.AllPods = spec.Field("podSelector").Empty()
		o.AllIngress = open(spec.Field("ingress"), "from")
		o.AllEgress = open(spec.Field("egress"), "to")
	}
}

// open says whether a rule has no peers, or all of them.
func open(rules *document.Node, peers string) bool {
	return slices.ContainsFunc(rules.Elements(), func(rule *document.Node) bool {
		if len(rule.Field(peers).Elements()) == 0 && len(rule.Field("ports").Elements()) == 0 {
			return true
		}
		return slices.ContainsFunc(rule.Field(peers).Elements(), func(peer *document.Node) bool {
			cidr := peer.Field("ipBlock", "cidr").Scalar()
			return cidr == "0.0.0.0/0" || cidr == "::/0"
		})
	})
}

// others reads rules, volumes of the cluster, webhooks and secrets.
func (o *Object) others(n *document.Node) {
	switch o.Kind {
	case "Role", "ClusterRole":
		for _, r := range n.Field("rules").Elements() {
			o.Rules = append(o.Rules, Rule{
				APIGroups: list(r.Field("apiGroups")), Resources: list(r.Field("resources")), Verbs: list(r.Field("verbs")),
				ResourceNames: list(r.Field("resourceNames")), NonResourceURLs: list(r.Field("nonResourceURLs")), Node: r,
			})
		}
	case "PersistentVolume":
		o.HostPath = clean(n.Field("spec", "hostPath", "path").Scalar())
	case "Secret":
		o.Type = n.Field("type").Scalar()
	case "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration":
		o.FailOpen = slices.ContainsFunc(n.Field("webhooks").Elements(), func(w *document.Node) bool {
			return w.Field("failurePolicy").Scalar() == "Ignore"
		})
	}
}

func clean(p string) string {
	if p == "" {
		return ""
	}
	return path.Clean("/" + p)
}

// list is never nil.
func list(n *document.Node) []string { return append([]string{}, n.Scalars()...) }

// podOf is the pod's spec of any workload: of its own kinds, and of others that
// hold a template as they do.
func podOf(o *Object, n *document.Node) (spec *document.Node, labels, annotations map[string]string) {
	template := n.Field("spec", "template")
	switch o.Kind {
	case "Pod":
		template = n
	case "PodTemplate":
		template = n.Field("template")
	case "CronJob":
		template = n.Field("spec", "jobTemplate", "spec", "template")
	}
	spec = template.Field("spec")
	if spec.Field("containers") == nil {
		return nil, nil, nil
	}
	return spec, template.Field("metadata", "labels").Texts(), template.Field("metadata", "annotations").Texts()
}

func pod(spec *document.Node, labels, annotations map[string]string) *Pod {
	security := spec.Field("securityContext")
	p := &Pod{
		ServiceAccount: spec.Field("serviceAccountName").Scalar(), MountsToken: spec.Field("automountServiceAccountToken").Truth(true),
		HostNetwork: spec.Field("hostNetwork").Truth(false), HostPID: spec.Field("hostPID").Truth(false), HostIPC: spec.Field("hostIPC").Truth(false),
		HostUsers: spec.Field("hostUsers").Truth(true), ShareProcesses: spec.Field("shareProcessNamespace").Truth(false),
		RunAsUser: security.Field("runAsUser").Whole(Unset), RunAsNonRoot: security.Field("runAsNonRoot").Truth(false),
		FSGroup: security.Field("fsGroup").Whole(Unset), Groups: list(security.Field("supplementalGroups")),
		Seccomp: security.Field("seccompProfile", "type").Scalar(), Sysctls: []string{}, Volumes: []Volume{}, Tolerations: []string{},
		HostAliases: len(spec.Field("hostAliases").Elements()), HostProcess: security.Field("windowsOptions", "hostProcess").Truth(false),
		PriorityClass: spec.Field("priorityClassName").Scalar(), NodeName: spec.Field("nodeName").Scalar(),
		Labels: labels, Annotations: annotations, Node: spec,
	}
	if p.ServiceAccount == "" {
		p.ServiceAccount = spec.Field("serviceAccount").Scalar()
	}
	for _, s := range security.Field("sysctls").Elements() {
		p.Sysctls = append(p.Sysctls, s.Field("name").Scalar())
	}
	for _, t := range spec.Field("tolerations").Elements() {
		p.Tolerations = append(p.Tolerations, t.Field("key").Scalar())
	}
	for _, v := range spec.Field("volumes").Elements() {
		p.Volumes = append(p.Volumes, volume(v))
	}
	for _, of := range []struct{ field, role string }{{"initContainers", "init"}, {"containers", "main"}, {"ephemeralContainers", "ephemeral"}} {
		for _, c := range spec.Field(of.field).Elements() {
			p.Containers = append(p.Containers, container(c, of.role, p, security))
		}
	}
	slices.SortStableFunc(p.Containers, func(a, b *Container) int { return a.Node.Line - b.Node.Line })
	return p
}

func volume(n *document.Node) Volume {
	v := Volume{Name: n.Field("name").Scalar(), Mode: Unset}
	for _, p := range n.Pairs {
		if p.Key != "name" {
			v.Type = p.Key
		}
	}
	v.HostPath = clean(n.Field("hostPath", "path").Scalar())
	v.Medium = n.Field("emptyDir", "medium").Scalar()
	v.Limited = n.Field("emptyDir", "sizeLimit") != nil
	v.Mode = n.Field("secret", "defaultMode").Whole(Unset)
	return v
}

func container(n *document.Node, role string, p *Pod, of *document.Node) *Container {
	own := n.Field("securityContext")
	either := func(path ...string) *document.Node { // the container's word rules
		if v := own.Field(path...); v != nil {
			return v
		}
		return of.Field(path...)
	}
	c := &Container{
		Name: n.Field("name").Scalar(), Role: role, Image: n.Field("image").Scalar(), PullPolicy: n.Field("imagePullPolicy").Scalar(),
		Command: append(list(n.Field("command")), n.Field("args").Scalars()...), Node: n,
		Privileged: own.Field("privileged").Truth(false), Escalation: own.Field("allowPrivilegeEscalation").Truth(true),
		ReadOnlyRoot: own.Field("readOnlyRootFilesystem").Truth(false),
		RunAsUser:    either("runAsUser").Whole(Unset), RunAsGroup: either("runAsGroup").Whole(Unset), RunAsNonRoot: either("runAsNonRoot").Truth(false),
		Added: capabilities(own.Field("capabilities", "add")), Dropped: capabilities(own.Field("capabilities", "drop")),
		Seccomp: either("seccompProfile", "type").Scalar(), AppArmor: either("appArmorProfile", "type").Scalar(),
		SELinuxType: either("seLinuxOptions", "type").Scalar(),
		SELinuxUser: either("seLinuxOptions", "user").Scalar() + either("seLinuxOptions", "role").Scalar(),
		ProcMount:   own.Field("procMount").Scalar(), HostProcess: either("windowsOptions", "hostProcess").Truth(false),
		Requests: n.Field("resources", "requests").Texts(), Limits: n.Field("resources", "limits").Texts(),
		Liveness: n.Field("livenessProbe") != nil, Readiness: n.Field("readinessProbe") != nil,
	}
	c.oldAppArmor(p)
	c.image()
	c.environment(n)
	c.reach(n)
	return c
}

// oldAppArmor reads the annotation that stood for the field before 1.30.
func (c *Container) oldAppArmor(p *Pod) {
	if word := p.Annotations["container.apparmor.security.beta.kubernetes.io/"+c.Name]; word != "" && c.AppArmor == "" {
		c.AppArmor = map[string]string{"unconfined": "Unconfined", "runtime/default": "RuntimeDefault"}[word]
		if c.AppArmor == "" {
			c.AppArmor = "Localhost"
		}
	}
}

func (c *Container) image() {
	rest, digest, _ := strings.Cut(c.Image, "@")
	c.Digest = digest
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, c.Tag = rest[:i], rest[i+1:]
	}
	c.Repository = rest
}

func (c *Container) environment(n *document.Node) {
	c.Env, c.EnvFromSecrets = []Variable{}, []string{}
	for _, e := range n.Field("env").Elements() {
		c.Env = append(c.Env, Variable{
			Name: e.Field("name").Scalar(), Value: e.Field("value").Scalar(), Secret: e.Field("valueFrom", "secretKeyRef") != nil,
		})
	}
	for _, e := range n.Field("envFrom").Elements() {
		if name := e.Field("secretRef", "name").Scalar(); name != "" {
			c.EnvFromSecrets = append(c.EnvFromSecrets, name)
		}
	}
}

func (c *Container) reach(n *document.Node) {
	c.Ports, c.Mounts = []Port{}, []Mount{}
	for _, p := range n.Field("ports").Elements() {
		c.Ports = append(c.Ports, Port{p.Field("containerPort").Whole(0), p.Field("hostPort").Whole(0)})
	}
	for _, m := range n.Field("volumeMounts").Elements() {
		c.Mounts = append(c.Mounts, Mount{
			Name: m.Field("name").Scalar(), Path: m.Field("mountPath").Scalar(), ReadOnly: m.Field("readOnly").Truth(false),
			SubPath: m.Field("subPath").Scalar(), Propagation: m.Field("mountPropagation").Scalar(),
		})
	}
}

func capabilities(n *document.Node) []string {
	names := list(n)
	for i, name := range names {
		names[i] = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	}
	return names
}
