package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestUpWithoutAKernelPart: on a host that can load nothing into its kernel the
// server serves, says loudly what is missing, scans images, and stops what the
// engine started against policy.
func TestUpWithoutAKernelPart(t *testing.T) {
	for lack, said := range map[string]string{
		"bpf":          "the kernel refuses BPF ring buffers (Linux 5.8 and CAP_BPF or CAP_SYS_ADMIN are needed)",
		"capabilities": "CAP_BPF or CAP_SYS_ADMIN",
		"cgroups":      "no cgroup hierarchy that names containers",
		"btf":          "the kernel carries no type information (/sys/kernel/btf/vmlinux); use a kernel with CONFIG_DEBUG_INFO_BTF",
	} {
		t.Run(lack, func(t *testing.T) {
			h := newWholeHost(t)
			h.box("before", "--cap-add=SYS_MODULE")
			h.up = startCommand(t, nil, exec.Command("without", append([]string{lack, "breakwater"}, h.upArgs("--gate=no")...)...))
			h.up.waitFor(t, "Guarding. Ctrl-C")
			if text := h.up.said(); !strings.Contains(text, said) || !strings.Contains(text, "WARNING: NOTHING IS ENFORCED IN THIS HOST'S KERNEL") {
				t.Errorf("it said:\n%s", text)
			}
			h.box("fine")
			h.box("refused", "--cap-add=SYS_MODULE")
			h.until("what policy refuses is stopped", func() bool {
				return h.engine.MustRun(t, "inspect", "-f", "{{.State.Running}}", "refused") == "false"
			})
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the host says %+v", h.status())
				}
			})
			h.until("the host says how far each container is guarded, and its image is judged", func() bool {
				st, modes, judged := h.status(), map[string]string{}, 0
				for _, g := range st.Containers {
					modes[g.Container.Name] = g.Mode
					if g.Verdict != nil {
						judged++
					}
				}
				known := slices.ContainsFunc(st.Problems, func(p string) bool { return strings.Contains(p, said) })
				return known && st.Doctor.Tier == 0 && judged == 2 &&
					len(modes) == 2 && modes["fine"] == "not covered" && modes["before"] == "not covered"
			})
			for _, name := range []string{"fine", "before"} { // which ran before is told, not stopped
				if h.engine.MustRun(t, "inspect", "-f", "{{.State.Running}}", name) != "true" {
					t.Errorf("%s was stopped", name)
				}
			}
			var images struct{ Items []struct{ Name string } }
			if err := h.api("GET", "/api/v1/images", nil, &images); err != nil || len(images.Items) != 1 {
				t.Errorf("%+v %v", images, err)
			}
		})
	}
}
