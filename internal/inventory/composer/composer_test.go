package composer_test

import (
	"testing"

	"github.com/breakwater-sec/breakwater/internal/inventory/composer"
	"github.com/breakwater-sec/breakwater/internal/inventory/inventorytest"
)

const (
	installed2 = `{"packages":[{"name":"Symfony/http-kernel","version":"v5.4.0","version_normalized":"5.4.0.0","license":["MIT"],"require":{"php":">=7"}}],"dev":true,"dev-package-names":[]}`
	installed1 = `[{"name":"monolog/monolog","version":"1.25.1","license":"MIT"},{"name":"novendor","version":"1"}]`
	lock       = `{"_readme":["x"],"packages":[{"name":"guzzlehttp/guzzle","version":"6.3.0","license":["MIT"]}],"packages-dev":[{"name":"phpunit/phpunit","version":"8.0.0"}],"aliases":[]}`
)

func TestConformance(t *testing.T) {
	inventorytest.Run(t, composer.Driver{}, []inventorytest.Case{
		{Path: "app/vendor/composer/installed.json", Content: []byte(installed2), Want: []string{"symfony/http-kernel v5.4.0"}},
		{Path: "app/lib/composer/installed.json", Content: []byte(installed1), Want: []string{"monolog/monolog 1.25.1"}},
	}, []string{"app/installed.json"})
	inventorytest.Run(t, composer.Locks{}, []inventorytest.Case{
		{Path: "app/composer.lock", Locked: true, Content: []byte(lock), Want: []string{"guzzlehttp/guzzle 6.3.0", "phpunit/phpunit 8.0.0"}},
	}, []string{"app/vendor/x/y/composer.lock"})
}

func FuzzInstalled(f *testing.F) {
	inventorytest.Fuzz(f, composer.Driver{}, "vendor/composer/installed.json", installed2, installed1)
}
func FuzzLock(f *testing.F) { inventorytest.Fuzz(f, composer.Locks{}, "composer.lock", lock) }
