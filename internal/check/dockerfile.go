package check

import (
	"fmt"
	"time"

	"github.com/breakwater-sec/breakwater/internal/check/dockerfile"
)

// Dockerfile judges a Dockerfile. path stands in results. now decides which
// ignoring comments still count. The error says why it is no Dockerfile.
func (cs *Checks) Dockerfile(path string, data []byte, now time.Time) (Result, error) {
	file, err := dockerfile.Parse(path, data)
	if err != nil {
		return Result{}, err
	}
	return cs.file(path, string(data), now, dockerfileSubjects(file)), nil
}

func dockerfileSubjects(file *dockerfile.File) []subject {
	list := []subject{{on: onDockerfile, line: file.Stages[0].Line, variables: map[string]any{"file": file}}}
	for _, s := range file.Stages {
		name := stageName(s)
		variables := map[string]any{"file": file, "stage": s}
		list = append(list, subject{on: onStage, resource: name, line: s.Line, variables: variables})
		for _, in := range s.Instructions {
			variables := map[string]any{"file": file, "stage": s, "instruction": in}
			list = append(list, subject{on: onInstruction, resource: name, line: in.Line, variables: variables})
			for i := range in.Commands {
				c := &in.Commands[i]
				list = append(list, subject{
					on: onCommand, resource: name, line: c.Line, enclosing: []int{in.Line},
					variables: map[string]any{"file": file, "stage": s, "instruction": in, "command": c},
				})
			}
		}
	}
	return list
}

func stageName(s *dockerfile.Stage) string {
	if s.Name != "" {
		return "stage " + s.Name
	}
	return fmt.Sprintf("stage %d", s.Index)
}
