// Package syslog sends incidents as RFC 5424 messages over TLS, framed as
// RFC 5425 says.
//
// RFC 5425 knows no acknowledgement. Send waits until the receiver's TCP has
// acknowledged every byte, which proves its host, not its program; notify
// therefore keeps sent incidents in doubt for its settle time. An orderly close
// proves the program: its kernel answers an end of stream only after the program
// has read everything before it, and a reset otherwise.
package syslog

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/breakwater-sec/breakwater/internal/event"
)

// dataID names the structured data element. 32473 is the enterprise number that
// RFC 5612 reserves for documentation; Breakwater has none of its own.
const dataID = "breakwater@32473"

// Message is one RFC 5424 message.
type Message struct {
	Facility int // 0..23
	Severity int // 0..7
	Time     time.Time
	Host     string
	App      string
	ProcID   string
	MsgID    string
	Data     []Param // of the one element breakwater@32473
	Body     []byte
}

// Param is one name and value of structured data. Names are the program's own.
type Param struct{ Name, Value string }

// Encode writes the message without a frame. Whatever is in the fields, the
// result is one well-formed message: header fields keep to printable ASCII and
// their lengths, values are escaped, and a body that is not ASCII is marked as
// UTF-8 by a byte order mark and made valid.
func (m Message) Encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "<%d>1 %s %s %s %s %s ", m.Facility*8+m.Severity, m.timestamp(),
		field(m.Host, 255), field(m.App, 48), field(m.ProcID, 128), field(m.MsgID, 32))
	if len(m.Data) == 0 {
		b.WriteByte('-')
	} else {
		b.WriteString("[" + dataID)
		for _, p := range m.Data {
			fmt.Fprintf(&b, ` %s="%s"`, p.Name, escape(p.Value))
		}
		b.WriteByte(']')
	}
	if len(m.Body) > 0 {
		b.WriteByte(' ')
		if !ascii(m.Body) {
			b.WriteString("\ufeff")
		}
		b.WriteString(strings.ToValidUTF8(string(m.Body), "\ufffd"))
	}
	return []byte(b.String())
}

func (m Message) timestamp() string {
	if y := m.Time.UTC().Year(); m.Time.IsZero() || y < 0 || y > 9999 {
		return "-"
	}
	return m.Time.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// field keeps a header field to printable ASCII without spaces and to n bytes.
func field(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '_'
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), n)]
}

// escape writes a parameter's value: RFC 5424 escapes three characters; control
// characters, which it leaves to the receiver's luck, become spaces.
func escape(s string) string {
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\ufffd") {
		switch {
		case r == '"' || r == '\\' || r == ']':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r >= 0x7f && r < 0xa0:
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Frame puts the length before a message, as RFC 5425 section 4.3 says.
func Frame(message []byte) []byte {
	return append(strconv.AppendInt(make([]byte, 0, len(message)+8), int64(len(message)), 10), append([]byte{' '}, message...)...)
}

// severity maps an incident's severity to syslog's numbers.
func severity(s event.Severity) int {
	switch s {
	case event.SeverityCritical:
		return 2 // critical
	case event.SeverityHigh:
		return 3 // error
	case event.SeverityMedium:
		return 4 // warning
	case event.SeverityLow:
		return 5 // notice
	default:
		return 6 // informational
	}
}

// facilities by their names in syslog.conf. RFC 5424 table 1 has the numbers.
func facility(name string) (int, bool) {
	names := []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}
	for n, s := range names {
		if s == name {
			return n, true
		}
	}
	return 0, false
}
