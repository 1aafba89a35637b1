package condition

import (
	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
)

// estimate is the most that an evaluation may cost, 0 when the budget estimates
// nothing.
func (e *Env) estimate(tree *cel.Ast) (uint64, error) {
	if e.budget.Text == 0 {
		return 0, nil
	}
	estimated, err := e.env.EstimateCost(tree, sizes(e.budget))
	return estimated.Max, err
}

// sizes tells CEL how large the variables' values get.
type sizes Budget

// EstimateCallCost leaves calls to CEL's own models.
func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}

// EstimateSize knows what comes out of a variable; the rest CEL derives.
func (s sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if n.Path() == nil {
		return nil
	}
	switch n.Type().Kind() {
	case types.StringKind:
		return &cost.SizeEstimate{Max: s.Text}
	case types.ListKind, types.MapKind:
		return &cost.SizeEstimate{Max: s.Items}
	}
	return nil
}
