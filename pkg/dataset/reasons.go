package dataset

// ReasonRefusedByStore is the reason of ingest for a row that Bigtable itself refuses.
const ReasonRefusedByStore Reason = "refused_by_store"

// ReasonInfo describes a reason for people.
type ReasonInfo struct {
	Reason      Reason
	Title       string
	Explanation string
}

// Reasons returns every reason for which a record is rejected.
func Reasons() []ReasonInfo {
	return []ReasonInfo{
		{ReasonBadJSON, "The record is not a JSON object", "The payload is not UTF-8, not JSON, not an object, nested too deep, or has something behind the object. If it is compressed, its attribute content-encoding must say so."},
		{ReasonUnknownField, "A field is not declared", "The record has a member that the dataset does not declare; what is not declared is not dropped in silence. Correct the name, or declare the field."},
		{ReasonMissingField, "A required field is missing", "A field with required: true is absent or null."},
		{ReasonDuplicateField, "A field stands twice", "The record has a member twice, so it is not known which value counts."},
		{ReasonWrongType, "A value has the wrong type", "The value is not one of the field's type: an integer within 64 bits, a time as RFC 3339 with its offset in the years 0000 to 9999, a date as 2006-01-02, bytes as base64."},
		{ReasonPattern, "A value does not match its pattern", "The string does not match the pattern that the field declares."},
		{ReasonRange, "A value is out of range", "The value is under the minimum or over the maximum of the field, or an event time is before 1970."},
		{ReasonOversize, "The record is too large", "A record has at most 1 MiB, also after it is unpacked; nothing beyond that is unpacked."},
		{ReasonTooOld, "The event time is older than the retention", "Its row would be garbage at once. What counts is the event time in whole milliseconds against the time of publication, so a backlog does not make a record too old, and publishing it again does."},
		{ReasonTooNew, "The event time is too far ahead", "The event time is later than the publication by more than max_ahead of the dataset. The clock of its source may be wrong: such a row would win over every later one with the same key."},
		{ReasonKeyTooLong, "The row key is too long", "The key fields, or those of an index and the key together, come to more than 4096 bytes."},
		{ReasonBadEncoding, "The payload cannot be unpacked", "The attribute content-encoding names something other than gzip or zstd, or the payload is not one whole stream of it with nothing behind."},
		{ReasonBadPayload, "The payload does not fit its schema", "The topic has an Avro or Protocol Buffer schema, and the payload is not a message of the revision that its attributes name."},
		{ReasonRefusedByStore, "Bigtable refuses the row", "The record passes the declaration, and Bigtable refuses its row by itself, for example because it is too large with its cells."},
	}
}

// LookupReason finds a reason by its name.
func LookupReason(name string) (ReasonInfo, bool) {
	for _, r := range Reasons() {
		if string(r.Reason) == name {
			return r, true
		}
	}
	return ReasonInfo{}, false
}
