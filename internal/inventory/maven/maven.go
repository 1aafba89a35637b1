// Package maven finds the Java artifacts that a build wants: gradle.lockfile
// and buildscript-gradle.lockfile (Gradle's dependency locking), build.sbt.lock
// (sbt-dependency-lock, lock version 1) and the direct
// dependencies of a pom.xml whose version stands in that file, as itself or as
// a property (Maven's POM reference). What a parent decides is not known here.
package maven

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/inventory"
	"github.com/breakwater-sec/breakwater/internal/inventory/lockfile"
	"github.com/breakwater-sec/breakwater/internal/inventory/purl"
)

// Locks is the inventory's driver for these files.
type Locks struct{}

// Names are those of the files.
func (Locks) Names() []string {
	return []string{"gradle.lockfile", "buildscript-gradle.lockfile", "build.sbt.lock", "pom.xml"}
}

// Wants a file that is this image's own.
func (Locks) Wants(path string, _ inventory.Info) bool {
	return !lockfile.Noise(path) && !strings.Contains(path, "META-INF/") && !strings.HasPrefix(path, "usr/share/maven-repo/")
}

// Extract lists every exact version.
func (Locks) Extract(f inventory.File) ([]event.Package, error) {
	data, err := lockfile.Read(f)
	if err != nil {
		return nil, err
	}
	switch path.Base(f.Path) {
	case "pom.xml":
		out, err := pom(data)
		return lockfile.Locked(out), err
	case "build.sbt.lock":
		out, err := sbt(data)
		return lockfile.Locked(out), err
	}
	return lockfile.Locked(gradle(data)), nil
}

// sbt reads a lock file of sbt-dependency-lock. Names carry Scala's binary
// version, as the artifacts of Maven do.
func sbt(data []byte) (out []event.Package, err error) {
	var lock struct {
		Version      int `json:"lockVersion"`
		Dependencies []struct {
			Org     string `json:"org"`
			Name    string `json:"name"`
			Version string `json:"version"`
		} `json:"dependencies"`
	}
	if err := json.Unmarshal(data, &lock); err != nil {
		return nil, errors.New("is not valid JSON")
	}
	if lock.Version != 1 {
		return nil, fmt.Errorf("is of lock version %d; 1 is read", lock.Version)
	}
	for _, d := range lock.Dependencies {
		if d.Org != "" {
			out = purl.Append(out, purl.Maven(d.Org, d.Name, d.Version))
		}
	}
	return out, nil
}

// gradle reads group:artifact:version=configurations.
func gradle(data []byte) []event.Package {
	var out []event.Package
	for raw := range bytes.Lines(data) {
		line := strings.TrimSpace(string(raw))
		coordinates, _, ok := strings.Cut(line, "=")
		part := strings.Split(coordinates, ":")
		if ok && line[0] != '#' && len(part) == 3 {
			out = purl.Append(out, purl.Maven(part[0], part[1], part[2]))
		}
	}
	return out
}

type dependency struct{ group, artifact, version string }

const maxDepth = 32

// pom walks the elements; what counts are project/properties/* and
// project/[dependencyManagement/]dependencies/dependency/*.
func pom(data []byte) ([]event.Package, error) {
	d := xml.NewDecoder(bytes.NewReader(data))
	d.Strict = false
	properties := map[string]string{}
	var all []dependency
	var stack []string
	var text strings.Builder
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return resolve(all, properties), nil
		}
		if err != nil {
			return resolve(all, properties), errors.New("is not valid XML")
		}
		switch t := token.(type) {
		case xml.StartElement:
			if len(stack) == maxDepth {
				return resolve(all, properties), errors.New("is nested too deeply")
			}
			stack = append(stack, t.Name.Local)
			text.Reset()
			if where := strings.Join(stack, "/"); where == "project/dependencies/dependency" || where == "project/dependencyManagement/dependencies/dependency" {
				all = append(all, dependency{})
			}
		case xml.CharData:
			if text.Len() < 1024 {
				text.Write(t)
			}
		case xml.EndElement:
			if len(stack) == 0 {
				return resolve(all, properties), errors.New("is not valid XML")
			}
			leave(stack, strings.TrimSpace(text.String()), properties, all)
			stack = stack[:len(stack)-1]
			text.Reset()
		}
	}
}

// leave takes the text of the element that ends.
func leave(stack []string, text string, properties map[string]string, all []dependency) {
	name, parents := stack[len(stack)-1], strings.Join(stack[:len(stack)-1], "/")
	switch parents {
	case "project/properties":
		properties[name] = text
	case "project", "project/parent":
		if _, set := properties["project."+name]; name == "version" || name == "groupId" {
			if parents == "project" || !set { // a parent's are inherited
				properties["project."+name] = text
			}
		}
	case "project/dependencies/dependency", "project/dependencyManagement/dependencies/dependency":
		last := &all[len(all)-1]
		switch name {
		case "groupId":
			last.group = text
		case "artifactId":
			last.artifact = text
		case "version":
			last.version = text
		}
	}
}

func resolve(all []dependency, properties map[string]string) []event.Package {
	managed := map[string]string{}
	for i := range all {
		d := &all[i]
		d.group, d.artifact, d.version = filled(d.group, properties), filled(d.artifact, properties), filled(d.version, properties)
		if d.version != "" {
			managed[d.group+":"+d.artifact] = d.version
		}
	}
	var out []event.Package
	for _, d := range all {
		if d.version == "" {
			d.version = managed[d.group+":"+d.artifact]
		}
		if d.group != "" && !strings.ContainsAny(d.group+d.artifact+d.version, "${}[](), ") {
			out = purl.Append(out, purl.Maven(d.group, d.artifact, d.version))
		}
	}
	return out
}

// filled replaces one property, which is how versions are written.
func filled(s string, properties map[string]string) string {
	for range 4 { // properties of properties
		before, rest, ok := strings.Cut(s, "${")
		name, after, closed := strings.Cut(rest, "}")
		value, known := properties[name]
		if !ok || !closed || !known || len(s) > 1024 {
			return s
		}
		s = before + value + after
	}
	return s
}
