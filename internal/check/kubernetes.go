package check

import (
	"cmp"
	"time"

	"github.com/breakwater-sec/breakwater/internal/check/kubernetes"
	"github.com/breakwater-sec/breakwater/internal/document"
)

// Kubernetes judges a file of manifests. Documents that cannot be read are
// gaps when others can; otherwise an error.
func (cs *Checks) Kubernetes(path string, data []byte, now time.Time) (Result, error) {
	docs, err := document.ParseForeign(path, data)
	return cs.documents(path, data, now, docs, err, func() []subject { return kubernetesSubjects(kubernetes.Objects(docs)) })
}

// documents judges what of a file can be read.
func (cs *Checks) documents(path string, data []byte, now time.Time, docs []*document.Node, err error, subjects func() []subject) (Result, error) {
	if err != nil && len(docs) == 0 {
		return Result{}, err
	}
	res := cs.file(path, string(data), now, subjects())
	if err != nil {
		res.Gaps = append(res.Gaps, err.Error())
	}
	return res, nil
}

func kubernetesSubjects(objects []*kubernetes.Object) (list []subject) {
	for _, o := range objects {
		name := o.Kind + "/" + cmp.Or(o.Name, "(no name)")
		with := func(extra map[string]any) map[string]any {
			variables := map[string]any{"object": o}
			for k, v := range extra {
				variables[k] = v
			}
			return variables
		}
		list = append(list, subject{on: onObject, resource: name, line: o.Node.Line, lineOf: o.Node.LineOf, variables: with(nil)})
		for i := range o.Rules {
			r := &o.Rules[i]
			list = append(list, subject{
				on: onRule, resource: name, line: r.Node.Line, lineOf: r.Node.LineOf, enclosing: []int{o.Node.Line},
				variables: with(map[string]any{"rule": r}),
			})
		}
		if o.Pod == nil {
			continue
		}
		pod := map[string]any{"pod": o.Pod}
		list = append(list, subject{on: onPod, resource: name, line: o.Pod.Node.Line, lineOf: o.Pod.Node.LineOf, enclosing: []int{o.Node.Line}, variables: with(pod)})
		for _, c := range o.Pod.Containers {
			list = append(list, subject{
				on: onContainer, resource: name + " container " + c.Name, line: c.Node.Line, lineOf: c.Node.LineOf,
				enclosing: []int{o.Node.Line, o.Pod.Node.Line}, variables: with(map[string]any{"pod": o.Pod, "container": c}),
			})
		}
	}
	return list
}

// sampleManifest is a sample as a whole object: what stands in a sample may be
// a container, a pod's spec or a rule alone.
func sampleManifest(n *document.Node) *document.Node {
	object := func(kind string, field string, value *document.Node) *document.Node {
		return mapNode("apiVersion", text("v1"), "kind", text(kind), "metadata", mapNode("name", text("sample")), field, value)
	}
	switch {
	case n.Field("container") != nil:
		return object("Pod", "spec", mapNode("containers", listNode(n.Field("container"))))
	case n.Field("pod") != nil:
		spec := *n.Field("pod")
		if spec.Field("containers") == nil {
			spec.Pairs = append(spec.Pairs[:len(spec.Pairs):len(spec.Pairs)], document.Pair{Key: "containers", Value: listNode(mapNode("name", text("app"), "image", text("a:1")))})
		}
		return object("Pod", "spec", &spec)
	case n.Field("rule") != nil:
		return object("ClusterRole", "rules", listNode(n.Field("rule")))
	}
	return n
}

func text(s string) *document.Node { return &document.Node{Kind: document.String, Text: s} }

func listNode(items ...*document.Node) *document.Node {
	return &document.Node{Kind: document.List, Items: items}
}

// mapNode makes a map of names and values in turn.
func mapNode(pairs ...any) *document.Node {
	n := &document.Node{Kind: document.Map}
	for i := 0; i+1 < len(pairs); i += 2 {
		n.Pairs = append(n.Pairs, document.Pair{Key: pairs[i].(string), Value: pairs[i+1].(*document.Node)})
	}
	return n
}
