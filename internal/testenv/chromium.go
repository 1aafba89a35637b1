package testenv

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// NeedChromium starts a headless Chromium of its own for the test and returns
// the context that drives it. The browser takes any certificate: what tests
// look at is the page.
func NeedChromium(t testing.TB) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		path, err = exec.LookPath("chromium-browser") // Ubuntu's name
	}
	if err != nil {
		Missing(t, "needs chromium: %v (apt-get install chromium; on Ubuntu chromium-browser)", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.UserDataDir(t.TempDir()))
	timeout, stop := context.WithTimeout(context.Background(), 2*time.Minute)
	alloc, cancelAlloc := chromedp.NewExecAllocator(timeout, options...)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		// Ends the browser and waits for it, so that its folder can go.
		_ = chromedp.Cancel(ctx)
		cancel()
		cancelAlloc()
		stop()
	})
	return ctx
}
