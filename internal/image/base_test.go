package image_test

import (
	"encoding/json"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/image"
)

// TestBaseLayers: the histories that Docker's classic builder, BuildKit and
// debuerreotype write.
func TestBaseLayers(t *testing.T) {
	const (
		root = `{"created_by":"/bin/sh -c #(nop) ADD file:ab in / "}`
		deb  = `{"created_by":"# debian.sh --arch amd64","comment":"debuerreotype 0.15"}`
		cmd  = `{"created_by":"/bin/sh -c #(nop)  CMD [\"bash\"]","empty_layer":true}`
		run  = `{"created_by":"RUN /bin/sh -c make # buildkit"}`
		env  = `{"created_by":"ENV A=1","empty_layer":true}`
	)
	for history, want := range map[string]int{
		"":                           0,
		root:                         0, // it is the image
		root + "," + cmd:             0, // so it is, with a command
		root + "," + run:             1,
		deb + "," + run + "," + cmd:  1,
		root + "," + cmd + "," + run: 1,
		root + "," + cmd + "," + run + "," + run + "," + cmd + "," + env + "," + run + "," + cmd: 3,
		run + "," + run: 0,
	} {
		var c image.Config
		if err := json.Unmarshal([]byte(`{"history":[`+history+`]}`), &c); err != nil {
			t.Fatal(err)
		}
		for _, h := range c.History {
			if !h.EmptyLayer {
				c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, "sha256:aa")
			}
		}
		if got := c.BaseLayers(); got != want {
			t.Errorf("%s: %d, want %d", history, got, want)
		}
	}
}
