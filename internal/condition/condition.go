// Package condition compiles and evaluates the CEL expressions that people
// write in policies and detections: typed variables, errors at the place in
// the file, bounded cost.
package condition

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/breakwater-sec/breakwater/internal/document"
)

// The bounds of one expression.
const (
	maxLength = 8 << 10   // characters
	maxNodes  = 2_000     // of the expression, macros unfolded
	maxNested = 40        // parser recursion
	maxCost   = 5_000_000 // CEL's own cost units: about a second of one core
)

// Env declares the variables that expressions may read. It is safe for
// concurrent use.
type Env struct {
	env    *cel.Env
	budget Budget
}

// Budget bounds what one evaluation may cost, in CEL's cost units. A unit is the
// work of one call or of ten characters looked at: below a microsecond.
type Budget struct {
	Cost uint64
	// Text and Items are how many characters and elements a variable's texts,
	// lists and maps have at most, as far as Compile estimates. An evaluation that
	// meets more is ended at Cost all the same. Zero: nothing is estimated.
	Text, Items uint64
}

// Within is the same Env with another budget: what may cost more by Compile's
// estimate does not compile, and what does cost more has no answer.
func (e *Env) Within(b Budget) *Env { return &Env{env: e.env, budget: b} }

// NewEnv declares variables by an example value of each: a struct, a slice or
// map of plain values or structs, a string, a bool or a number. Fields carry
// the names of their json tags.
func NewEnv(variables map[string]any) (*Env, error) {
	options := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(maxLength),
		cel.ParserRecursionLimit(maxNested),
		cel.ExpressionNodeLimit(maxNodes),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateRegexProgramSizeLimit(2_000), cel.ValidateComprehensionNestingLimit(3)),
		ext.Strings(), ext.Network(),
	}
	native := []any{types.ParseStructTag("json")}
	for _, example := range variables {
		if t := structOf(reflect.TypeOf(example)); t != nil {
			native = append(native, t)
		}
	}
	options = append(options, ext.NativeTypes(native...))
	for name, example := range variables {
		t, err := celType(reflect.TypeOf(example))
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", name, err)
		}
		options = append(options, cel.Variable(name, t))
	}
	env, err := cel.NewEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("declare the variables of conditions: %w", err)
	}
	return &Env{env: env, budget: Budget{Cost: maxCost}}, nil
}

func structOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct {
		return t
	}
	return nil
}

func celType(t reflect.Type) (*cel.Type, error) {
	switch t.Kind() {
	case reflect.Pointer:
		return celType(t.Elem())
	case reflect.Struct:
		return cel.ObjectType(t.String()), nil
	case reflect.Slice:
		elem, err := celType(t.Elem())
		return cel.ListType(elem), err
	case reflect.Map:
		elem, err := celType(t.Elem())
		return cel.MapType(cel.StringType, elem), err
	case reflect.String:
		return cel.StringType, nil
	case reflect.Bool:
		return cel.BoolType, nil
	case reflect.Int, reflect.Int64:
		return cel.IntType, nil
	case reflect.Float64:
		return cel.DoubleType, nil
	}
	return nil, fmt.Errorf("%s has no counterpart in CEL", t)
}

// Condition is a compiled expression that is true or false. It is safe for
// concurrent use.
type Condition struct {
	Text    string
	Source  string // file:line
	program cel.Program
	reads   map[string]bool
	// Cost is the most that an evaluation costs by the estimate of the Env's
	// budget; 0 without one.
	Cost   uint64
	fields map[string]bool
}

// Compile compiles the text of v. What is wrong is reported on v at its place
// inside the expression, and the result is nil.
func (e *Env) Compile(v document.Value) *Condition {
	text := v.String()
	if text == "" {
		return nil
	}
	tree, issues := e.env.Compile(text)
	if issues != nil && issues.Err() != nil {
		report(v, issues)
		return nil
	}
	if tree.OutputType() != cel.BoolType {
		v.Fail("is %s; a condition must be true or false", cel.FormatCELType(tree.OutputType()))
		return nil
	}
	estimated, err := e.estimate(tree)
	if err != nil {
		v.Fail("cannot be compiled: %v", err)
		return nil
	}
	if estimated > e.budget.Cost {
		v.Fail("may cost %d units of work each time, more than %d: look at less, or at shorter texts", estimated, e.budget.Cost)
		return nil
	}
	program, err := e.env.Program(tree, cel.CostLimit(e.budget.Cost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		v.Fail("cannot be compiled: %v", err)
		return nil
	}
	return &Condition{Text: text, Source: v.Source(), program: program, reads: identifiers(tree), fields: fields(tree), Cost: estimated}
}

func report(v document.Value, issues *cel.Issues) {
	starts := lineStarts(v.Text)
	for i, problem := range issues.Errors() {
		if i == 5 { // what follows a syntax error is noise
			return
		}
		offset := 0
		if at := problem.Location; at != nil && at.Line() >= 1 && at.Line() <= len(starts) {
			offset = starts[at.Line()-1] + at.Column()
		}
		v.FailAt(offset, "in the condition: %s", plain(problem.Message))
	}
}

// quoted finds words in the library's messages.
var quoted = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`'[^' ]+'`) })

// plain writes operators as people do: == rather than _==_.
func plain(message string) string {
	return quoted().ReplaceAllStringFunc(message, func(word string) string {
		if shown, ok := operators.FindReverse(strings.Trim(word, "'")); ok && shown != "" {
			return "'" + shown + "'"
		}
		return word
	})
}

// lineStarts holds the character number at which each line starts.
func lineStarts(text string) []int {
	starts, i := []int{0}, 0
	for _, r := range text {
		i++
		if r == '\n' {
			starts = append(starts, i)
		}
	}
	return starts
}

func identifiers(tree *cel.Ast) map[string]bool {
	names := map[string]bool{}
	celast.PreOrderVisit(tree.NativeRep().Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() == celast.IdentKind {
			names[e.AsIdent()] = true
		}
	}))
	return names
}

func fields(tree *cel.Ast) map[string]bool {
	names := map[string]bool{}
	celast.PreOrderVisit(tree.NativeRep().Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.Kind() == celast.SelectKind {
			names[e.AsSelect().FieldName()] = true
		}
	}))
	return names
}

// ReadsField says whether the expression names a field of that name, of
// whatever variable.
func (c *Condition) ReadsField(name string) bool { return c.fields[name] }

// Reads says whether the expression names that variable.
func (c *Condition) Reads(variable string) bool { return c.reads[variable] }

// Eval evaluates the condition. Variables are those of the Env, structs as
// pointers or values. An error means that there is no answer: a missing map
// key, or more work than one condition may cost.
func (c *Condition) Eval(variables map[string]any) (bool, error) {
	out, _, err := c.program.Eval(variables)
	if err != nil {
		return false, err
	}
	answer, ok := out.Value().(bool)
	if !ok {
		return false, fmt.Errorf("the answer is %s, not true or false", out.Type().TypeName())
	}
	return answer, nil
}
