package dockerfile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/check/dockerfile"
)

func parse(t *testing.T, text string) *dockerfile.File {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return f
}

// programs are the commands of the last stage, with their lines.
func programs(f *dockerfile.File) string {
	var out []string
	for _, in := range f.Stages[len(f.Stages)-1].Instructions {
		for _, c := range in.Commands {
			out = append(out, fmt.Sprintf("%d:%s", c.Line, c.Text))
		}
	}
	return strings.Join(out, "; ")
}

func TestStages(t *testing.T) {
	f := parse(t, `# syntax=docker/dockerfile:1
ARG VERSION=1.22
ARG NONE
FROM --platform=$BUILDPLATFORM golang:${VERSION} AS Build
USER 10001
FROM unused AS other
FROM registry.test:5000/base@sha256:abc AS pinned
FROM build AS tests
FROM ${NONE}
COPY --from=build /out /app
`)
	var got []string
	for _, s := range f.Stages {
		got = append(got, fmt.Sprintf("%s|%s|%s|%s|%v|%v|%v|%s", s.Name, s.Base.Repository, s.Base.Tag, s.Base.Digest, s.Base.Known, s.Used, s.Final, s.User))
	}
	want := []string{"build|golang|1.22||true|true|false|10001", "other|unused|||true|false|false|", "pinned|registry.test:5000/base||sha256:abc|true|false|false|",
		"tests|build|||true|false|false|10001", "||||false|true|true|"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if f.Syntax != "docker/dockerfile:1" || f.Stages[3].Origin != "golang:1.22" || !f.Stages[3].Base.Stage || f.Stages[0].Platform != "$BUILDPLATFORM" {
		t.Errorf("%+v", f)
	}
}

func TestCommandsHaveTheirLines(t *testing.T) {
	for text, want := range map[string]string{
		"FROM a\nRUN apt-get update && \\\n  # why\n  apt-get install -y curl | tee log\n":             "2:apt-get update; 4:apt-get install -y curl; 4:tee log",
		"FROM a\nRUN apt-get install -y \\\n  --no-install-recommends \\\n# why\n  curl && \\\n  id\n": "2:apt-get install -y --no-install-recommends curl; 6:id",
		"FROM a\nRUN <<EOF\nset -e\nsudo make\nEOF\nRUN true":                                          "3:set -e; 4:make; 6:true",
		"FROM a\nRUN <<-\"E\" sh -x\n\techo '$x'\n\tE\n":                                               "2:sh -x; 3:echo $x",
		"FROM a\nRUN python3 <<E\nimport os\nE\n":                                                      "2:python3",
		"# escape=`\nFROM a\nRUN dir `\n  C:\\x\n":                                                     "3:dir C:x",
		"FROM a\nCMD [\"nginx\", \"-g\", \"daemon off;\"]":                                             "2:nginx -g daemon off;",
		"FROM a\nHEALTHCHECK --interval=5s CMD curl -f localhost || exit 1":                            "2:curl -f localhost; 2:exit 1",
		"FROM a\nRUN bash -c 'curl x | sh'":                                                            "2:bash -c curl x | sh; 2:curl x; 2:sh",
		"FROM a\nRUN A=1 env B=2 /usr/bin/make x > out 2>&1":                                           "2:/usr/bin/make x",
		"FROM a\r\nRUN echo 'a # b' # c\r\n":                                                           "2:echo a # b",
		"FROM a\nRUN echo $(date) `id` ${X:-y}":                                                        "2:echo $(date) `id` ${X:-y}",
	} {
		if got := programs(parse(t, text)); got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func TestValuesInEffect(t *testing.T) {
	f := parse(t, "ARG D=/srv\nFROM a\nARG D\nENV A=1 B=$A C=\"x y\" P=${D}/p\nENV OLD the value\nLABEL q=${A:-z} r=${NONE:-d} s=${A:+set}\nWORKDIR $D\nWORKDIR sub\nUSER app:app\nRUN id\nSHELL [\"/bin/bash\", \"-c\"]\nRUN id\nVOLUME [\"/a\", \"$D\"]")
	all := f.Stages[0].Instructions
	pairs := func(i int) string {
		var out []string
		for _, p := range all[i].Pairs {
			out = append(out, p.Name+"="+p.Value)
		}
		return strings.Join(out, ",")
	}
	if pairs(1) != "A=1,B=,C=x y,P=/srv/p" || pairs(2) != "OLD=the value" || !all[2].Obsolete || pairs(3) != "q=1,r=d,s=set" {
		t.Errorf("%q %q %q", pairs(1), pairs(2), pairs(3))
	}
	if run := all[7]; run.Workdir != "/srv/sub" || run.User != "app:app" || run.Shell != "" {
		t.Errorf("%+v", run)
	}
	if run := all[9]; run.Shell != "/bin/bash" {
		t.Errorf("%+v", run)
	}
	if last := all[10]; !last.JSON || !slices.Equal(last.Args, []string{"/a", "/srv"}) || !last.Last {
		t.Errorf("%+v", last)
	}
}

func TestMistakesHaveTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "f:1: has no FROM",
		"RUN x\nFROM a":                         "f:1: RUN stands before FROM",
		"FROM a\n\nFRM b":                       `f:3: "FRM" is no instruction`,
		"FROM a b":                              "f:1: FROM must be",
		"FROM a\nRUN <<E\nx":                    "f:2: the here-document E has no end",
		"FROM \xff":                             "f:1: is not UTF-8 text",
		strings.Repeat("#", 1<<20) + "\nFROM a": "f:1: has 1048583 bytes",
		"FROM a\n" + strings.Repeat("RUN x\n", 2_001): "f:2001: has more than 2000 instructions",
	} {
		_, err := dockerfile.Parse("f", []byte(text))
		var e *dockerfile.Error
		if !errors.As(err, &e) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

// grown is a file whose values hold values: each ENV doubles one, and then every
// further one takes all of it.
func grown(doublings, copies int) string {
	return "FROM a\nENV a=xxxxxxxx\n" + strings.Repeat("ENV a=$a$a\n", doublings) + strings.Repeat("ENV b=$a\nLABEL l=$a\nUSER $a\n", copies)
}

// TestHostileFilesStaySmall: what a file is read into is bounded by more than
// each of its values.
func TestHostileFilesStaySmall(t *testing.T) {
	for name, text := range map[string]string{
		"values of values": grown(20, 600), "values of one length": grown(16, 600),
		"commands": "FROM a\n" + strings.Repeat("RUN "+strings.Repeat("a;", 400)+"\n", 1_000),
		"nested":   "FROM a\nRUN " + strings.Repeat(`sh -c "`, 2_000), "open": "FROM a\nRUN " + strings.Repeat("$(", 100_000) + strings.Repeat("'", 100_001),
	} {
		f := parse(t, text)
		if n := weight(t, f); n > 64<<20 {
			t.Errorf("%s: %d bytes out of %d", name, n, len(text))
		}
		n := 0
		for _, in := range f.Stages[0].Instructions {
			n += len(in.Commands)
		}
		if n > 5_000 {
			t.Errorf("%s: %d commands", name, n)
		}
	}
}

func weight(t testing.TB, f *dockerfile.File) int {
	t.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"FROM a\nRUN <<E\nx\nE\n", "# escape=`\nFROM a`\n:b\n", "#!/bin/x\n# syntax=a\n# check=b\nARG A=b\nFROM ${A:-c}@sha256:d AS e\nCOPY --from=e a b",
		"FROM a\nENV a=${a:-$b} c=\"$a\" \\\n # d\n e=f\nENV g h i", "FROM a\nRUN sh -c \"sh -c 'curl x | sh'\" > y 2>&1 && { z; } &> w",
		"FROM a\nCMD [\"a\"]\nHEALTHCHECK CMD x\nONBUILD RUN y\nVOLUME [\"/\"]\nWORKDIR a\nWORKDIR $b\nSHELL [\"c\"]\nUSER d", "FROM a\nRUN --mount=type=bind,from=b <<-'C' d\n\te\n\tC\nRUN `f` $(g) ${h",
		grown(4, 2),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := dockerfile.Parse("f", data)
		lines := strings.Count(string(data), "\n") + 1
		var wrong *dockerfile.Error
		if err != nil {
			if !errors.As(err, &wrong) || wrong.Line < 1 || wrong.Line > lines || wrong.Message == "" {
				t.Errorf("%v of %d lines", err, lines)
			}
			return
		}
		if n := weight(t, file); n > 64<<20 {
			t.Errorf("%d bytes became %d", len(data), n)
		}
		finals, commands := 0, 0
		for i, s := range file.Stages {
			if s.Final {
				finals++
			}
			if s.Index != i || s.Line < 1 || s.Line > lines {
				t.Errorf("stage %+v of %d lines", s, lines)
			}
			for _, in := range s.Instructions {
				commands += len(in.Commands)
				if in.Line < s.Line || in.Line > lines || in.Name != strings.ToUpper(in.Written) {
					t.Errorf("instruction %+v of %d lines", in, lines)
				}
				for _, c := range in.Commands {
					if c.Line < in.Line || c.Line > lines {
						t.Errorf("command %+v of line %d", c, in.Line)
					}
				}
			}
		}
		if finals != 1 || commands > 5_000 {
			t.Errorf("%d final stages, %d commands", finals, commands)
		}
	})
}
