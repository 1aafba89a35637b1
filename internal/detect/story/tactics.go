package story

import (
	"slices"
	"strings"
)

// matrix is the order of ATT&CK's tactics (attack.mitre.org, Enterprise, v17).
func matrix() []string {
	return []string{"resource development", "initial access", "execution", "persistence", "privilege escalation", "defense evasion",
		"credential access", "discovery", "lateral movement", "collection", "command and control", "exfiltration", "impact"}
}

// Tactic is what a technique serves, "" when it is not known here. Where ATT&CK
// names several, it is the one that fits what detections take the technique for:
// what changes how a program starts is persistence, what crosses a boundary of
// rights is privilege escalation.
func Tactic(technique string) string {
	base, _, _ := strings.Cut(technique, ".")
	switch base {
	case "T1588":
		return "resource development"
	case "T1190", "T1195":
		return "initial access"
	case "T1059", "T1072", "T1204", "T1609", "T1610":
		return "execution"
	case "T1037", "T1053", "T1098", "T1136", "T1505", "T1543", "T1546", "T1547", "T1574":
		return "persistence"
	case "T1055", "T1068", "T1548", "T1611":
		return "privilege escalation"
	case "T1006", "T1014", "T1027", "T1070", "T1140", "T1562", "T1564", "T1620":
		return "defense evasion"
	case "T1003", "T1040", "T1110", "T1528", "T1552", "T1555", "T1556", "T1557", "T1649":
		return "credential access"
	case "T1018", "T1033", "T1046", "T1082", "T1083", "T1613":
		return "discovery"
	case "T1021":
		return "lateral movement"
	case "T1005":
		return "collection"
	case "T1071", "T1095", "T1105", "T1568", "T1571", "T1572":
		return "command and control"
	case "T1048", "T1567":
		return "exfiltration"
	case "T1485", "T1496", "T1498", "T1499", "T1529", "T1561", "T1565":
		return "impact"
	}
	return ""
}

// inOrder adds the tactic of each technique to those seen.
func inOrder(seen, techniques []string) []string {
	for _, t := range techniques {
		if tactic := Tactic(t); tactic != "" && !slices.Contains(seen, tactic) {
			seen = append(seen, tactic)
		}
	}
	order := matrix()
	slices.SortFunc(seen, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
	return seen
}
