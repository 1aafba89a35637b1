package wordpress_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
	"github.com/breakwater-sec/breakwater/internal/inventory/wordpress"
)

const (
	plugin = "<?php\n/**\n * @package Akismet\n */\n/*\nPlugin Name: Akismet Anti-Spam\nVersion: 5.0.1\nLicense: GPLv2 or later\n*/\n$x = 'Version: 9';\n"
	theme  = "/*\nTheme Name: Twenty Twenty\nVersion: 2.1\n*/\nbody{}\n"
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, wordpress.Driver{}, []inventorytest.Case{
		{Path: "var/www/html/wp-content/plugins/akismet/akismet.php", Content: []byte(plugin), Want: []string{"plugin/akismet 5.0.1"}},
		{Path: "var/www/html/wp-content/plugins/akismet/index.php", Content: []byte("<?php\n// Silence is golden.\n")},
		{Path: "var/www/html/wp-content/themes/twentytwenty/style.css", Content: []byte(theme), Want: []string{"theme/twentytwenty 2.1"}},
	}, []string{"wp-content/plugins/hello.php", "wp-content/plugins/a/inc/b.php", "wp-content/themes/a/functions.php", "css/style.css"})
}

func FuzzPlugin(f *testing.F) {
	inventorytest.Fuzz(f, wordpress.Driver{}, "wp-content/plugins/a/a.php", plugin)
}
func FuzzTheme(f *testing.F) {
	inventorytest.Fuzz(f, wordpress.Driver{}, "wp-content/themes/a/style.css", theme)
}
