package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// floor reads the archive once, front to back, and does no more with it than
// any scanner must: open each layer, read package files, count packages.
func floor(path string) {
	f, err := os.Open(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer f.Close()
	packages := 0
	outer := tar.NewReader(bufio.NewReaderSize(f, 1<<20))
	for {
		h, err := outer.Next()
		if err != nil {
			break
		}
		if strings.HasSuffix(h.Name, "layer.tar") {
			packages += floorLayer(tar.NewReader(outer))
		}
	}
	fmt.Println(packages)
}

func floorLayer(layer *tar.Reader) (packages int) {
	for {
		h, err := layer.Next()
		if err != nil {
			return packages
		}
		switch {
		case h.Typeflag != tar.TypeReg:
		case h.Name == "var/lib/dpkg/status":
			data, _ := io.ReadAll(layer)
			packages += bytes.Count(data, []byte("\nStatus: install ok installed"))
		case strings.HasSuffix(h.Name, "/package.json"):
			data, _ := io.ReadAll(layer)
			var m struct{ Name, Version string }
			if json.Unmarshal(data, &m) == nil && m.Version != "" {
				packages++
			}
		case h.Mode&0o111 != 0 && h.Size > 100_000:
			data, _ := io.ReadAll(layer)
			if info, err := buildinfo.Read(bytes.NewReader(data)); err == nil {
				packages += len(info.Deps) + 2
			}
		}
	}
}
