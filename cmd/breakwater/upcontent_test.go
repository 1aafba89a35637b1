package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/report"
	"github.com/breakwater-sec/breakwater/internal/testenv"
)

func contentPolicy(name, image string) string {
	return "apiVersion: breakwater/v1\nkind: Policy\nmetadata: {name: " + name + "}\nimage: {unscanned: scan, " + image + "}\n"
}

// refusedFor starts a container that the gate must refuse, and says why it did.
func (h *wholeHost) refusedFor(image string, reasons ...string) string {
	h.t.Helper()
	_, errs, code := h.engine.Run("run", "--rm", "--network=none", image, "true")
	if code == 0 {
		h.t.Errorf("%s ran", image)
	}
	for _, reason := range reasons {
		if !strings.Contains(errs, reason) {
			h.t.Errorf("%s is refused without %q: %s", image, reason, errs)
		}
	}
	return errs
}

// reportAt is the report of an image that the server has.
func (h *wholeHost) reportAt(digest string) report.Report {
	h.t.Helper()
	var found struct{ Report report.Report }
	if err := h.api(http.MethodGet, "/api/v1/images/"+digest, nil, &found); err != nil {
		return report.Report{} // it is on its way
	}
	return found.Report
}

// TestUpRefusesSecrets: what `breakwater scan` says of a secret in a layer that
// nobody sees any more, the gate says too, and the server; never the value.
func TestUpRefusesSecrets(t *testing.T) {
	value := "AKIA" + "QWERTYUIOPASDFGH"
	h := newWholeHost(t)
	leaky := h.engine.BuildImage(t, "leaky", "FROM "+h.image+"\nCOPY key.env /srv/key.env\nRUN rm /srv/key.env\n",
		map[string][]byte{"key.env": []byte("AWS_ACCESS_KEY_ID=" + value + "\n")})
	h.start("--gate=yes")
	h.engine.MustRun(t, "run", "--rm", "--network=none", "leaky", "true") // nobody asks yet
	h.apply(contentPolicy("no-secrets", "secrets: deny"))
	said := h.refusedFor("leaky", "aws-access-key", "/srv/key.env", "removed later", "image.secrets", "no-secrets")
	t.Log(said)
	if strings.Contains(said, value) {
		t.Error("the gate tells the secret")
	}
	h.engine.MustRun(t, "run", "--rm", "--network=none", h.image, "true")
	h.until("the server has it, and refuses it", func() bool {
		r := h.reportAt(leaky)
		return len(r.Secrets) == 1 && slices.Contains(r.Looked, event.LookedSecrets) && r.Verdict != nil && !r.Verdict.Allowed
	})

	// A policy that asks about more has known images looked at again.
	if slices.Contains(h.reportAt(leaky).Looked, event.LookedLicenses) {
		t.Error("nobody asked about licences")
	}
	h.apply(contentPolicy("licences", "licenses: {deny: [SSPL-1.0]}"))
	h.engine.MustRun(t, "run", "--rm", "--network=none", h.image, "true")
	h.until("the image is looked at again", func() bool {
		r := h.reportAt(leaky)
		return slices.Contains(r.Looked, event.LookedLicenses) && len(r.Secrets) == 1
	})

	// What this host cannot look for is not known, and decided about by unscanned.
	h.apply(contentPolicy("no-malware", "malware: deny"))
	h.refusedFor(h.image, "was not looked through for malware")
}

// TestUpAsksWhoSigned: the trust file in the data folder counts on hosts too,
// and a registry that cannot be asked is told of.
func TestUpAsksWhoSigned(t *testing.T) {
	h := newWholeHost(t)
	r := testenv.NewRegistry(t)
	name := r.Host + "/demo/app:1"
	h.engine.BuildImage(t, name, "FROM "+h.image+"\nLABEL of=signed\n", nil)
	h.engine.MustRun(t, "login", "-u", r.User, "-p", r.Password, r.Host)
	h.engine.MustRun(t, "push", "-q", name)
	h.start("--gate=yes")
	h.engine.MustRun(t, "run", "--rm", "--network=none", name, "true")
	h.apply(contentPolicy("signed", "signedBy: [release]"))
	h.refusedFor(name, "signatures were not looked for", "trust.yaml")
	if err := os.WriteFile(filepath.Join(h.data, "trust.yaml"), []byte(trustOf(t, "release")), 0o600); err != nil {
		t.Fatal(err)
	}
	// Nobody told this host whose certificate the registry has.
	h.refusedFor(name, "image.signedBy", "signatures were not verified", r.Host)
	h.refusedFor(h.image, "no name of the image says by which digest a registry holds it")
}

// trustOf is a trust file with a new key.
func trustOf(t *testing.T, signer string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return "apiVersion: breakwater/v1\nkind: Trust\nsigners:\n  - name: " + signer + "\n    cosign:\n      key: |\n        " +
		strings.ReplaceAll(text, "\n", "\n        ") + "\n"
}

// TestUpRefusesMalware: a host with a malware engine shows it the files of
// images; one that is away is no all-clear.
func TestUpRefusesMalware(t *testing.T) {
	h := newWholeHost(t)
	clamd := testenv.NeedClamd(t, 4<<20)
	h.engine.BuildImage(t, "infected", "FROM "+h.image+"\nCOPY a.zip /opt/a.zip\n", map[string][]byte{"a.zip": []byte(zipOf(t, "a.txt", testenv.EICAR()))})
	h.engine.BuildImage(t, "later", "FROM "+h.image+"\nLABEL of=later\n", nil)
	h.start("--gate=yes", "--malware=clamd://"+clamd.Socket)
	h.apply(contentPolicy("no-malware", "malware: deny"))
	h.refusedFor("infected", "Test.Eicar", "/opt/a.zip", "image.malware")
	h.engine.MustRun(t, "run", "--rm", "--network=none", h.image, "true")
	clamd.Kill()
	h.refusedFor("later", "was not looked through for malware", "clamd")
	h.refusedFor("infected", "Test.Eicar")
	h.until("the host says that its malware engine is away", func() bool {
		return strings.Contains(strings.Join(h.status().Problems, " "), "clamd")
	})
}
