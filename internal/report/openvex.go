package report

import (
	"io"

	"github.com/breakwater-sec/breakwater/internal/vex"
)

// OpenVEX writes the report's findings as an OpenVEX document, a draft for
// whoever answers for the image: what counts is affected, what a VEX document
// took out is what that document says.
func OpenVEX(w io.Writer, r *Report) error {
	doc, err := vex.Write(r.Image, r.Findings, r.Excluded, r.Tool, r.Tool, r.Time)
	if err != nil {
		return err
	}
	_, err = w.Write(doc)
	return err
}
