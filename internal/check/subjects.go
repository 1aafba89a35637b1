package check

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/check/dockerfile"
	"github.com/breakwater-sec/breakwater/internal/condition"
	"github.com/breakwater-sec/breakwater/internal/document"
)

// The kinds of subjects.
const (
	onDockerfile  = "dockerfile.file"
	onStage       = "dockerfile.stage"
	onInstruction = "dockerfile.instruction"
	onCommand     = "dockerfile.command"
)

// views gives the variables of each kind of subject by example.
func views() map[string]map[string]any {
	file, stage, in := dockerfile.File{}, dockerfile.Stage{}, dockerfile.Instruction{}
	return map[string]map[string]any{
		onDockerfile:  {"file": file},
		onStage:       {"file": file, "stage": stage},
		onInstruction: {"file": file, "stage": stage, "instruction": in},
		onCommand:     {"file": file, "stage": stage, "instruction": in, "command": dockerfile.Command{}},
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
	}
	return nil, errors.New("no samples of " + on)
}
