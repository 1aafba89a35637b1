package feed

import (
	"bufio"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Observable is something that tells of malicious software when it is seen: a
// file's hash, or a peer on the network.
type Observable struct {
	Kind  ObservableKind
	Value string // hex in lower case; an address; a network in CIDR form; a domain
	Name  string // what it tells of, as the publisher calls it
	// Confidence is the publisher's, 0 to 100; 0 when it states none.
	Confidence int
	// Ends is when it stops to mean anything; zero when the publisher says
	// nothing about that.
	Ends time.Time
}

// ObservableKind is what an observable's value is.
type ObservableKind string

// The kinds of observables.
const (
	KindSHA256  ObservableKind = "sha256"
	KindMD5     ObservableKind = "md5"
	KindAddress ObservableKind = "address"
	KindNetwork ObservableKind = "network"
	KindDomain  ObservableKind = "domain"
)

// IsHash says whether the kind is a file's hash.
func (k ObservableKind) IsHash() bool { return k == KindSHA256 || k == KindMD5 }

const (
	maxObservables = 5_000_000
	maxLine        = 1 << 16
)

// ParseObservables reads hashes, addresses, networks and domains in the forms
// that publishers use, told apart by content, compressed or not:
//
//   - a STIX 2.1 bundle (JSON): indicators whose pattern is one comparison, or
//     several joined by OR, of a file hash, an address, a domain or a URL;
//   - CSV as abuse.ch gives it out (MalwareBazaar, Feodo Tracker, URLhaus): the
//     columns are told by a header, in a comment or not;
//   - a plain list: one value a line, with a name after it if there is one.
//
// Lines that hold nothing usable are handed to skip. Addresses that could be
// anybody's own (loopback, private, unspecified, multicast) are refused: a list
// that names them would cut a site off from itself.
func ParseObservables(r io.Reader, each func(Observable) error, skip func(name string, err error)) error {
	plain, err := Unpack(r, 4<<30)
	if err != nil {
		return fmt.Errorf("indicators: %w", err)
	}
	defer func() { _ = plain.Close() }() // only read
	in := bufio.NewReaderSize(plain, maxLine)
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("indicators: %w", err)
	}
	count := 0
	counted := func(o Observable) error {
		if count++; count > maxObservables {
			return fmt.Errorf("indicators: more than %d", maxObservables)
		}
		return each(o)
	}
	if strings.HasPrefix(strings.TrimSpace(string(head)), "{") {
		err = parseSTIX(in, counted, skip)
	} else {
		err = parseLines(in, counted, skip)
	}
	if err == nil && count == 0 {
		return errors.New("indicators: there is not one hash, address, network or domain")
	}
	return err
}

// parseLines reads CSV and plain lists.
func parseLines(in io.Reader, each func(Observable) error, skip func(string, error)) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	columns := map[string]int{}
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		comment := strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//") || strings.HasPrefix(line, ";")
		fields := splitCSV(strings.TrimLeft(line, "#/; "))
		if found := headerOf(fields); found != nil {
			columns = found
			continue
		}
		if line == "" || comment {
			continue
		}
		o, err := lineObservable(fields, columns)
		if err != nil {
			skip(fmt.Sprintf("line %d", n), err)
			continue
		}
		if err := each(o); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("indicators: %w", err)
	}
	return nil
}

func splitCSV(line string) []string {
	if !strings.Contains(line, ",") {
		return strings.Fields(line)
	}
	r := csv.NewReader(strings.NewReader(line))
	r.LazyQuotes, r.TrimLeadingSpace, r.FieldsPerRecord = true, true, -1
	fields, err := r.Read()
	if err != nil {
		return nil
	}
	for i := range fields {
		fields[i] = strings.Trim(strings.TrimSpace(fields[i]), `"`)
	}
	return fields
}

// headerOf gives the columns of a header line, nil for other lines.
func headerOf(fields []string) map[string]int {
	columns := map[string]int{}
	for i, f := range fields {
		for _, c := range [...]struct{ column, names string }{
			{"value", "|sha256_hash|dst_ip|url|domain|host|hostname|sha256|ip|ip_address|indicator|ioc|ioc_value|value|"}, {"md5", "|md5_hash|md5|"},
			{"name", "|signature|malware|malware_printable|threat|name|family|"}, {"ends", "|valid_until|expires|ends|expiration|"},
			{"confidence", "|confidence|confidence_level|"}, {"status", "|url_status|c2_status|"},
		} {
			if _, taken := columns[c.column]; !taken && strings.Contains(c.names, "|"+strings.ToLower(f)+"|") {
				columns[c.column] = i
			}
		}
	}
	_, value := columns["value"]
	_, md5 := columns["md5"]
	if !value && !md5 || len(fields) < 2 {
		return nil
	}
	return columns
}

func lineObservable(fields []string, columns map[string]int) (Observable, error) {
	at := func(column string, or int) string {
		i, ok := columns[column]
		if !ok {
			i = or
		}
		if i < 0 || i >= len(fields) {
			return ""
		}
		return fields[i]
	}
	or := 0 // of a list without a header the first word is the value, the rest its name
	if len(columns) > 0 {
		or = -1
	}
	o, err := observable(at("value", or))
	if err != nil {
		if o, err = observable(at("md5", -1)); err != nil {
			return o, err
		}
	}
	if len(columns) == 0 {
		o.Name = title(strings.Join(fields[1:], " "), "")
	} else {
		o.Name = title(at("name", -1), "")
	}
	o.Ends = dayOrTime(at("ends", -1))
	_, _ = fmt.Sscanf(at("confidence", -1), "%d", &o.Confidence) // absent or no number: none stated
	o.Confidence = min(max(o.Confidence, 0), 100)
	return o, nil
}

var errUnusable = errors.New("not a hash, address, network or domain that can be used")

// observable tells a value's kind by its form. Of a URL the host counts.
func observable(s string) (Observable, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if len(s) > 2048 {
		return Observable{}, errUnusable
	}
	if _, err := hex.DecodeString(s); err == nil && (len(s) == 64 || len(s) == 32) {
		if len(s) == 64 {
			return Observable{Kind: KindSHA256, Value: s}, nil
		}
		return Observable{Kind: KindMD5, Value: s}, nil
	}
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil {
			return Observable{}, errUnusable
		}
		s = u.Hostname()
	}
	if network, err := netip.ParsePrefix(s); err == nil {
		if !foreign(network.Addr()) || network.Bits() < minBits(network.Addr()) {
			return Observable{}, errUnusable
		}
		return Observable{Kind: KindNetwork, Value: network.Masked().String()}, nil
	}
	if address, err := netip.ParseAddrPort(s); err == nil {
		s = address.Addr().String()
	}
	if address, err := netip.ParseAddr(s); err == nil {
		if address = address.Unmap().WithZone(""); !foreign(address) {
			return Observable{}, errUnusable
		}
		return Observable{Kind: KindAddress, Value: address.String()}, nil
	}
	if s = strings.TrimSuffix(strings.TrimPrefix(s, "*."), "."); IsDomain(s) {
		return Observable{Kind: KindDomain, Value: s}, nil
	}
	return Observable{}, errUnusable
}

// minBits: no list of enemies means a tenth of the internet.
func minBits(a netip.Addr) int {
	if a.Is4() {
		return 8
	}
	return 19
}

func foreign(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !a.IsLinkLocalUnicast()
}

// IsDomain says whether s is a domain as observables have it: at least two labels
// of lower-case letters, digits, dashes and underscores, the last not a number.
func IsDomain(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(last) > 1 && strings.Trim(last, "0123456789") != ""
}

type stixObject struct {
	Type       string `json:"type"`
	Name       string `json:"name"`
	Pattern    string `json:"pattern"`
	Kind       string `json:"pattern_type"`
	Until      string `json:"valid_until"`
	Confidence int    `json:"confidence"`
	Revoked    bool   `json:"revoked"`
}

func parseSTIX(in io.Reader, each func(Observable) error, skip func(string, error)) error {
	dec := decode(in)
	if err := dec.enterList("objects"); err != nil {
		return fmt.Errorf("STIX: %w", err)
	}
	for n := 0; dec.More(); n++ {
		var o stixObject
		err := dec.next(&o)
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			skip(fmt.Sprintf("objects[%d]", n), err)
			continue
		}
		if err != nil {
			return fmt.Errorf("STIX: %w", err)
		}
		if o.Type != "indicator" || o.Revoked || o.Kind != "" && o.Kind != "stix" {
			continue
		}
		found, err := stixPattern(o.Pattern)
		if err != nil {
			skip(fmt.Sprintf("objects[%d]", n), err)
			continue
		}
		for _, x := range found {
			x.Name, x.Ends, x.Confidence = title(o.Name, ""), dayOrTime(o.Until), min(max(o.Confidence, 0), 100)
			if err := each(x); err != nil {
				return err
			}
		}
	}
	return nil
}

// stixPattern reads [path = 'value' OR path = 'value'], which says that each of
// the values alone tells; other patterns need more than a value to be seen.
func stixPattern(pattern string) ([]Observable, error) {
	inner, ok := strings.CutPrefix(strings.TrimSpace(pattern), "[")
	if inner, ok2 := strings.CutSuffix(inner, "]"); ok && ok2 && !strings.ContainsAny(inner, "[]") && len(inner) < maxLine {
		var out []Observable
		for _, comparison := range strings.Split(inner, " OR ") {
			path, quoted, ok := strings.Cut(comparison, "=")
			value := strings.Trim(strings.TrimSpace(quoted), "'")
			path = strings.TrimSpace(path)
			if !ok || strings.ContainsAny(value, "' ") || !stixPath(path) {
				return nil, errors.New("the pattern is not a comparison of one hash, address, domain or URL")
			}
			o, err := observable(value)
			if err != nil {
				return nil, err
			}
			out = append(out, o)
		}
		return out, nil
	}
	return nil, errors.New("the pattern is not one comparison")
}

func stixPath(path string) bool {
	return slices.Contains([]string{"ipv4-addr:value", "ipv6-addr:value", "domain-name:value", "url:value"}, path) ||
		strings.HasPrefix(path, "file:hashes.")
}
