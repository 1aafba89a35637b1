package check

import (
	"encoding/json"
	"fmt"

	"github.com/breakwater-sec/breakwater/internal/document"
	"github.com/breakwater-sec/breakwater/internal/event"
)

// Image is the configuration of an image, as checks see it.
type Image struct {
	User         string            `json:"user"`
	Env          []EnvVariable     `json:"env"`
	Entrypoint   []string          `json:"entrypoint"`
	Cmd          []string          `json:"cmd"`
	Labels       map[string]string `json:"labels"`
	ExposedPorts []string          `json:"exposedPorts"` // as 80/tcp
	Volumes      []string          `json:"volumes"`
	WorkingDir   string            `json:"workingDir"`
	StopSignal   string            `json:"stopSignal"`
	Healthcheck  bool              `json:"healthcheck"` // there is one, and it is not NONE
	OnBuild      []string          `json:"onBuild"`
	History      []string          `json:"history"`    // the build steps, tidied
	References   []string          `json:"references"` // its names
}

// EnvVariable is one environment variable of an image.
type EnvVariable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Image judges the configuration of an image.
func (cs *Checks) Image(i Image) Result {
	var found []violation
	var res Result
	s := subject{on: onImage, path: "image configuration", variables: map[string]any{"image": &i}}
	s.place = func(int) event.Place { return event.Place{} }
	cs.judge(s, &found, &res.Gaps)
	for _, v := range found {
		res.Found = append(res.Found, v.Misconfiguration)
	}
	res.Found = sorted(res.Found)
	return res
}

func sampleImage(n *document.Node) (Image, error) {
	data, err := json.Marshal(n.Plain())
	if err != nil {
		return Image{}, err
	}
	var i Image
	if err := json.Unmarshal(data, &i); err != nil {
		return Image{}, fmt.Errorf("is no image configuration: %w", err)
	}
	return i, nil
}
