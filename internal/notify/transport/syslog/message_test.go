package syslog_test

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/event"
	"github.com/breakwater-sec/breakwater/internal/notify/transport/syslog"
)

func TestEncode(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("", 3600))
	for name, c := range map[string]struct {
		m    syslog.Message
		want string
	}{
		"whole": {syslog.Message{Facility: 10, Severity: 2, Time: at, Host: "h", App: "breakwater", ProcID: "7", MsgID: "incident", Data: []syslog.Param{{"key", "k"}, {"severity", "high"}}, Body: []byte(`{"a":1}`)},
			`<82>1 2026-01-02T02:04:05.678901Z h breakwater 7 incident [breakwater@32473 key="k" severity="high"] {"a":1}`},
		"empty":            {syslog.Message{}, `<0>1 - - - - - -`},
		"UTF-8 is marked":  {syslog.Message{Body: []byte("né\xff")}, "<0>1 - - - - - - \ufeffné\ufffd"},
		"hostile fields":   {syslog.Message{Host: "a b\n<1>1 é", App: strings.Repeat("x", 60)}, "<0>1 - a_b_<1>1__ " + strings.Repeat("x", 48) + " - - -"},
		"hostile values":   {syslog.Message{Data: []syslog.Param{{"key", "a\"]\\\n\x1b[0m\xffé"}}}, `<0>1 - - - - - [breakwater@32473 key="a\"\]\\  [0m` + "\ufffdé\"]"},
		"impossible times": {syslog.Message{Time: time.Unix(1<<40, 0)}, `<0>1 - - - - - -`},
	} {
		if got := string(c.m.Encode()); got != c.want {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got, c.want)
		}
	}
}

func TestFrame(t *testing.T) {
	if got := string(syslog.Frame([]byte("né"))); got != "3 né" {
		t.Errorf("got %q", got)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("key", "host", "sentence")
	f.Add(`"]\`, "a b\n", "\xff\ufeff\x00")
	f.Add(strings.Repeat("]", 600), strings.Repeat("é", 300), strings.Repeat("\x01", 9000))
	header := regexp.MustCompile(`^<\d{1,3}>1 [0-9TZ:.-]+ [!-~]{1,255} breakwater - incident \[breakwater@32473( [a-z]+="([^"\\\]]|\\["\\\]])*")+\] \{`)
	r, err := syslog.New(syslog.Config{Address: "localhost:6514", MaxMessage: 2048})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, key, host, text string) {
		got, err := r.Message(event.Incident{Key: key, Host: host, Sentence: text, Detection: text, Severity: event.Severity(text), Decision: event.Decision{Outcome: event.Outcome(text), Control: event.Control(text)}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) > 2048 || !utf8.Valid(got) || !header.Match(got) || strings.ContainsAny(string(got), "\n\r\x00") {
			t.Fatalf("%d bytes: %q", len(got), got)
		}
	})
}

func TestValidate(t *testing.T) {
	if err := (syslog.Config{Address: "siem.example:6514", Facility: "local3", MaxMessage: 4096}).Validate(); err != nil {
		t.Error(err)
	}
	err := syslog.Config{Address: "siem.example", Certificate: "c", Facility: "nine", MaxMessage: 7}.Validate()
	for _, word := range []string{"address", "certificate and key", `facility "nine"`, "maxMessage 7"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in %v", word, err)
		}
	}
	if _, err := syslog.New(syslog.Config{Address: "h:1", CA: "/nonexistent/ca"}); err == nil || !strings.Contains(err.Error(), "/nonexistent/ca") {
		t.Errorf("missing file: %v", err)
	}
}
