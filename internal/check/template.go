package check

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"github.com/breakwater-sec/breakwater/internal/document"
)

// template is a sentence with facts of the subject in it, as {container.name}.
type template string

var placeholder = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{([^{}]*)\}`) })

// parseTemplate checks every placeholder against the example variables.
func parseTemplate(v document.Value, variables map[string]any) template {
	text := v.String()
	for _, hole := range placeholder().FindAllStringSubmatch(text, -1) {
		if _, ok := lookUp(variables, hole[1]); !ok {
			v.Fail("{%s} is no text or number of %s's view", hole[1], strings.SplitN(hole[1], ".", 2)[0])
		}
	}
	return template(text)
}

// fill puts the facts in, each cut to a length that a sentence bears.
func (t template) fill(variables map[string]any) string {
	return placeholder().ReplaceAllStringFunc(string(t), func(hole string) string {
		word, _ := lookUp(variables, hole[1:len(hole)-1])
		const most = 120
		if r := []rune(word); len(r) > most {
			word = string(r[:most]) + "…"
		}
		return word
	})
}

// lookUp follows a path of json names to a text, a number or a list of texts.
func lookUp(variables map[string]any, path string) (string, bool) {
	first, rest, _ := strings.Cut(path, ".")
	v := reflect.ValueOf(variables[first])
	for rest != "" {
		first, rest, _ = strings.Cut(rest, ".")
		if v = fieldOf(v, first); !v.IsValid() {
			return "", false
		}
	}
	if v = reflect.Indirect(v); !v.IsValid() {
		return "", false
	}
	switch x := v.Interface().(type) {
	case string:
		return x, true
	case []string:
		return strings.Join(x, ", "), true
	case int:
		return fmt.Sprint(x), true
	}
	return "", false
}

func fieldOf(v reflect.Value, name string) reflect.Value {
	v = reflect.Indirect(v)
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("json") == name {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}
