package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// The life of certificates. Leaves are made anew at each start and before they
// end, and begin a day early, for clocks differ. 397 days is the most that
// browsers take.
const (
	authorityLife = 20 * 365 * 24 * time.Hour
	leafLife      = 397 * 24 * time.Hour
	leafRenew     = 30 * 24 * time.Hour
	clockAhead    = 24 * time.Hour
)

// authority is the server's own certificate authority: one long-lived key that
// agents pin, which signs the certificate that is shown.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	pem   []byte
	names []string
	now   func() time.Time

	mu   sync.Mutex // guards what follows
	leaf *tls.Certificate
}

// openAuthority reads the authority from dir, or makes it.
func openAuthority(dir string, names []string, now func() time.Time) (*authority, error) {
	a := &authority{names: append(ownNames(), names...), now: now}
	keyFile, certFile := filepath.Join(dir, "keys", "tls.key"), filepath.Join(dir, "tls-ca.pem")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeAuthority(certFile, keyFile, now()); err != nil {
			return nil, fmt.Errorf("certificate authority: %w", err)
		}
		pair, err = tls.LoadX509KeyPair(certFile, keyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority %s, %s: %w: put their backup there, or remove both to make a new one, which every agent must be enrolled with again", certFile, keyFile, err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("certificate authority %s: its key is no ECDSA key", keyFile)
	}
	a.key, a.cert = key, pair.Leaf
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})
	_, err = a.certificate(nil)
	return a, err
}

// ownNames are those by which this host is reached without further ado.
func ownNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, host)
	}
	return names
}

func makeAuthority(certFile, keyFile string, now time.Time) error {
	if _, err := os.Stat(keyFile); err == nil {
		return fmt.Errorf("%s is there without %s: put the certificate's backup there, or remove the key", keyFile, certFile)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template, err := certificateTemplate("Breakwater authority", now, authorityLife)
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	// The certificate last: with it the pair is complete.
	if err := writeSecret(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
		return err
	}
	return writeSecret(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func certificateTemplate(name string, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-clockAhead), NotAfter: now.Add(life)}, err
}

// certificate is the leaf to show, made anew when it is missing, near its end,
// or from a time that the clock went back before.
func (a *authority) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.leaf != nil && now.Add(leafRenew).Before(a.leaf.Leaf.NotAfter) && now.After(a.leaf.Leaf.NotBefore) {
		return a.leaf, nil
	}
	leaf, err := a.issue(now)
	if err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	a.leaf = leaf
	return leaf, nil
}

func (a *authority) issue(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certificateTemplate("Breakwater server", now, leafLife)
	if err != nil {
		return nil, err
	}
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range a.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}, err
}

func (a *authority) config() *tls.Config {
	return &tls.Config{GetCertificate: a.certificate, MinVersion: tls.VersionTLS12}
}

func (a *authority) fingerprint() string {
	sum := sha256.Sum256(a.cert.Raw)
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}
