package check

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/check/compose"
	"github.com/breakwater-sec/breakwater/internal/check/dockerfile"
	"github.com/breakwater-sec/breakwater/internal/check/kubernetes"
	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
)

// The kinds of subjects.
const (
	onDockerfile  = "dockerfile.file"
	onStage       = "dockerfile.stage"
	onInstruction = "dockerfile.instruction"
	onCommand     = "dockerfile.command"
	onObject      = "kubernetes.object"
	onPod         = "kubernetes.pod"
	onContainer   = "kubernetes.container"
	onRule        = "kubernetes.rule"
	onProject     = "compose.project"
	onService     = "compose.service"
	onImage       = "image"
)

// views gives the variables of each kind of subject by example.
func views() map[string]map[string]any {
	file, stage, in := dockerfile.File{}, dockerfile.Stage{}, dockerfile.Instruction{}
	object, pod := kubernetes.Object{}, kubernetes.Pod{}
	return map[string]map[string]any{
		onDockerfile:  {"file": file},
		onStage:       {"file": file, "stage": stage},
		onInstruction: {"file": file, "stage": stage, "instruction": in},
		onCommand:     {"file": file, "stage": stage, "instruction": in, "command": dockerfile.Command{}},
		onObject:      {"object": object},
		onPod:         {"object": object, "pod": pod},
		onContainer:   {"object": object, "pod": pod, "container": kubernetes.Container{}},
		onRule:        {"object": object, "rule": kubernetes.Rule{}},
		onProject:     {"project": compose.Project{}},
		onService:     {"project": compose.Project{}, "service": compose.Service{}},
		onImage:       {"image": Image{}},
	}
}

func kinds() []string {
	var list []string
	for k := range views() {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// environments is built once: the variables never change.
var environments = sync.OnceValues(func() (map[string]*condition.Env, error) {
	envs := map[string]*condition.Env{}
	for kind, variables := range views() {
		env, err := condition.NewEnv(variables)
		if err != nil {
			return nil, fmt.Errorf("checks on %s: %w", kind, err)
		}
		envs[kind] = env
	}
	return envs, nil
})

// sampleSubjects reads a sample of a check on that kind of subject.
func sampleSubjects(on string, node *document.Node) ([]subject, error) {
	switch on {
	case onDockerfile, onStage, onInstruction, onCommand:
		file, err := dockerfile.Parse("sample", []byte(node.Scalar()))
		if err != nil {
			return nil, err
		}
		return dockerfileSubjects(file), nil
	case onObject, onPod, onContainer, onRule:
		objects := kubernetes.Objects([]*document.Node{sampleManifest(node)})
		if len(objects) == 0 {
			return nil, errors.New("the sample is no object: it has no apiVersion or kind")
		}
		return kubernetesSubjects(objects), nil
	case onProject, onService:
		return composeSubjects(compose.Read(sampleProject(node))), nil
	case onImage:
		i, err := sampleImage(node)
		return []subject{{on: onImage, variables: map[string]any{"image": &i}}}, err
	}
	return nil, errors.New("no samples of " + on)
}
