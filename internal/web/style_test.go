package web_test

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestColoursCanBeRead computes the contrast (WCAG 2.2, 1.4.3: at least 4.5 to
// 1) of every text colour on every ground that it stands on, in both themes.
func TestColoursCanBeRead(t *testing.T) {
	css, err := os.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	colours := map[string][2]string{}
	for _, m := range regexp.MustCompile(`--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)`).FindAllStringSubmatch(string(css), -1) {
		colours[m[1]] = [2]string{m[2], m[3]}
	}
	if len(colours) < 14 {
		t.Fatalf("only %d colours found", len(colours))
	}
	check := func(text, ground string) {
		for theme := range 2 {
			if c := contrast(t, colours[text][theme], colours[ground][theme]); c < 4.5 {
				t.Errorf("theme %d: %s on %s has %.2f", theme, text, ground, c)
			}
		}
	}
	for _, text := range []string{"text", "dim", "accent", "critical", "high", "medium", "low", "good"} {
		for _, ground := range []string{"ground", "panel", "accent-ground"} {
			check(text, ground)
		}
	}
	check("text", "bad-ground")
	check("critical", "bad-ground")
	check("on-accent", "accent")
	check("ground", "critical")
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// luminance is WCAG's relative luminance of #rrggbb.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
