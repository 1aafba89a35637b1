package dockerfile

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// builder follows the instructions as a build would.
type builder struct {
	file     *File
	escape   byte
	global   variables // ARG before FROM
	vars     variables // of the stage
	stage    *Stage
	workdir  string
	shell    string
	commands int // that may still come
	room     int // bytes of values that may still come
}

// add follows one instruction; it returns what makes the file wrong.
func (b *builder) add(one raw) string {
	in := &Instruction{Name: strings.ToUpper(one.name), Written: one.name, Line: one.line, Pairs: []Pair{}, Args: []string{}, Commands: []Command{}}
	if !slices.Contains(instructionNames, in.Name) {
		return fmt.Sprintf("%q is no instruction", clip(one.name))
	}
	in.Flags = one.flags()
	in.Text, in.Heredocs = one.text, len(one.heredocs)
	if in.Name == "FROM" {
		return b.from(in)
	}
	if b.stage == nil {
		if in.Name != "ARG" {
			return fmt.Sprintf("%s stands before FROM: only ARG may", in.Name)
		}
		b.pairs(in)
		b.file.Args = append(b.file.Args, in.Pairs...)
		b.global = maps.Clone(b.vars)
		return ""
	}
	in.User, in.Workdir, in.Shell = b.stage.User, b.workdir, b.shell
	b.read(in, &one)
	b.effect(in)
	b.stage.Instructions = append(b.stage.Instructions, in)
	return ""
}

func clip(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

func (b *builder) from(in *Instruction) string {
	words := b.words(in.Text)
	if len(words) != 1 && (len(words) != 3 || !strings.EqualFold(words[1], "AS")) {
		return "FROM must be `FROM image` or `FROM image AS name`"
	}
	s := &Stage{Index: len(b.file.Stages), Line: in.Line, Instructions: []*Instruction{}, Platform: in.Flags["platform"]}
	s.Base = b.base(words[0])
	if len(words) == 3 {
		s.Name = strings.ToLower(words[2])
		b.file.Targets = append(b.file.Targets, s.Name)
	}
	b.vars, b.workdir, b.shell = variables{}, "", ""
	s.Origin = s.Base.Reference
	if from := b.find(s.Base.Reference); from != nil {
		s.Base.Stage, s.User, s.Origin = true, from.User, from.Origin
		from.Used = true
	}
	b.stage = s
	b.file.Stages = append(b.file.Stages, s)
	return ""
}

// base takes an image's name apart.
func (b *builder) base(text string) Base {
	base := Base{Text: text, Scratch: strings.EqualFold(text, "scratch")}
	base.Reference, base.Known = b.expand(b.global, text)
	rest, digest, _ := strings.Cut(base.Reference, "@")
	base.Digest = digest
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, base.Tag = rest[:i], rest[i+1:]
	}
	base.Repository = rest
	return base
}

// find is the stage of that name or number.
func (b *builder) find(name string) *Stage {
	for _, s := range slices.Backward(b.file.Stages) {
		if s.Name != "" && strings.EqualFold(s.Name, name) || fmt.Sprint(s.Index) == name {
			return s
		}
	}
	return nil
}

// read takes the text of an instruction apart.
func (b *builder) read(in *Instruction, one *raw) {
	switch in.Name {
	case "ENV", "LABEL", "ARG":
		b.pairs(in)
	case "RUN":
		b.run(in, one)
	case "CMD", "ENTRYPOINT", "SHELL":
		b.command(in, one, in.Text, 0)
	case "HEALTHCHECK":
		if rest := strings.TrimLeft(strings.TrimPrefix(in.Text, "CMD"), " \t"); rest != in.Text {
			b.command(in, one, rest, len(in.Text)-len(rest))
		} else {
			in.Args = b.words(in.Text)
		}
	case "ONBUILD":
		in.OnBuild = true
		if words := b.words(in.Text); len(words) > 0 {
			in.Trigger = strings.ToUpper(words[0])
		}
	default:
		if in.Args, in.JSON = jsonForm(in.Text); !in.JSON {
			in.Args = b.words(in.Text)
		}
		for i, arg := range in.Args {
			in.Args[i], _ = b.expand(b.vars, arg)
		}
	}
	if in.Args == nil {
		in.Args = []string{}
	}
}

// command reads CMD and its like: the JSON form, or a line for the shell that
// starts at offset of the instruction's text.
func (b *builder) command(in *Instruction, one *raw, text string, offset int) {
	if in.Args, in.JSON = jsonForm(text); in.JSON {
		if len(in.Args) > 0 {
			in.Commands = append(in.Commands, simple(in.Args, in.Line))
		}
		return
	}
	in.Args = b.words(text)
	b.script(in, text, func(at int) int { return one.lineOf(at + offset) })
}

func (b *builder) run(in *Instruction, one *raw) {
	if len(one.heredocs) == 0 {
		b.command(in, one, in.Text, 0)
		return
	}
	head := strings.TrimSpace(opening().ReplaceAllString(in.Text, ""))
	b.script(in, head, func(int) int { return in.Line })
	if interpreter := strings.Fields(head); len(interpreter) > 0 && !isShell(interpreter[0]) {
		return // the body is not for the shell
	}
	for _, doc := range one.heredocs {
		if strings.HasPrefix(doc.body, "#!") && !isShell(strings.Fields(doc.body + " x")[0]) {
			continue
		}
		b.script(in, doc.body, func(at int) int { return doc.line + strings.Count(doc.body[:min(at, len(doc.body))], "\n") })
	}
}

func (b *builder) script(in *Instruction, text string, line func(int) int) {
	for _, c := range commands(text, line, b.commands) {
		b.commands--
		in.Commands = append(in.Commands, c)
	}
}

// pairs reads ENV, LABEL and ARG and puts their values into effect.
func (b *builder) pairs(in *Instruction) {
	words := b.words(in.Text)
	if in.Name != "ARG" && len(words) > 0 && !strings.Contains(words[0], "=") { // ENV NAME the value
		in.Obsolete = true
		name, value, _ := strings.Cut(strings.TrimSpace(in.Text), " ")
		words = []string{name + "=" + strings.TrimSpace(value)}
	}
	if b.vars == nil {
		b.vars = variables{}
	}
	before := maps.Clone(b.vars) // one instruction does not see its own values
	for _, w := range words {
		name, value, set := strings.Cut(w, "=")
		p := Pair{Name: name, Set: set}
		p.Value, _ = b.expand(before, value)
		in.Pairs = append(in.Pairs, p)
		switch {
		case in.Name == "LABEL":
		case set:
			b.vars[name] = p.Value
		default: // ARG NAME takes the value from before FROM
			if value, ok := b.global[name]; ok {
				b.vars[name] = value
			}
		}
	}
}

// effect is what an instruction changes for those that follow.
func (b *builder) effect(in *Instruction) {
	switch in.Name {
	case "USER":
		b.stage.User = first(in.Args)
	case "WORKDIR":
		if dir := first(in.Args); strings.HasPrefix(dir, "/") || b.workdir == "" {
			b.workdir = dir
		} else {
			b.workdir = strings.TrimSuffix(b.workdir, "/") + "/" + dir
		}
	case "SHELL":
		b.shell = first(in.Args)
	case "ENTRYPOINT":
		b.stage.Entrypoints++
	case "CMD":
		b.stage.Cmds++
	case "HEALTHCHECK":
		b.stage.Healthchecks++
	case "COPY":
		b.uses(in.Flags["from"])
	case "RUN":
		for _, m := range mountFrom().FindAllStringSubmatch(in.Flags["mount"], -1) {
			b.uses(m[1])
		}
	}
}

var mountFrom = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?:^|[ ,])from=([^ ,]+)`) })

func (b *builder) uses(name string) {
	if from := b.find(name); name != "" && from != nil {
		from.Used = true
	}
}

func first(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

func (b *builder) finish() {
	b.stage.Final, b.stage.Used = true, true
	for _, s := range b.file.Stages {
		if n := len(s.Instructions); n > 0 {
			s.Instructions[n-1].Last = true
		}
	}
}
