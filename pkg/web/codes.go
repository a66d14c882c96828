package web

import (
	"net/http"
	"slices"
	"strings"
)

// Code names one kind of error. Codes are stable: clients and documentation rely on them.
type Code string

// The codes, in the order of their status.
const (
	BadRequest           Code = "BAD_REQUEST"
	InvalidParameter     Code = "INVALID_PARAMETER"
	UnknownParameter     Code = "UNKNOWN_PARAMETER"
	InvalidID            Code = "INVALID_ID"
	InvalidRecord        Code = "INVALID_RECORD"
	ScanRefused          Code = "SCAN_REFUSED"
	CursorMismatch       Code = "CURSOR_MISMATCH"
	CursorExpired        Code = "CURSOR_EXPIRED"
	Unauthenticated      Code = "UNAUTHENTICATED"
	Forbidden            Code = "FORBIDDEN"
	NotFound             Code = "NOT_FOUND"
	DatasetNotFound      Code = "DATASET_NOT_FOUND"
	RowNotFound          Code = "ROW_NOT_FOUND"
	MethodNotAllowed     Code = "METHOD_NOT_ALLOWED"
	NotAcceptable        Code = "NOT_ACCEPTABLE"
	RequestTimeout       Code = "REQUEST_TIMEOUT"
	BodyTooLarge         Code = "BODY_TOO_LARGE"
	URITooLong           Code = "URI_TOO_LONG"
	UnsupportedMediaType Code = "UNSUPPORTED_MEDIA_TYPE"
	RateLimited          Code = "RATE_LIMITED"
	HeadersTooLarge      Code = "HEADERS_TOO_LARGE"
	ClientClosed         Code = "CLIENT_CLOSED"
	Internal             Code = "INTERNAL"
	Unavailable          Code = "UNAVAILABLE"
	Overloaded           Code = "OVERLOADED"
	IndexBuilding        Code = "INDEX_BUILDING"
	PublishIncomplete    Code = "PUBLISH_INCOMPLETE"
	DeadlineExceeded     Code = "DEADLINE_EXCEEDED"
)

// CodeInfo explains one code.
type CodeInfo struct {
	Code   Code
	Status int
	// Title is the problem's title: the same for every occurrence.
	Title string
	// Explanation says what causes it and what to do, in one or two sentences.
	Explanation string
}

// Codes lists every error code with its explanation, in the order of the status.
func Codes() []CodeInfo { return slices.Clone(codeTable[:]) }

// LookupCode finds a code whatever its case.
func LookupCode(name string) (CodeInfo, bool) {
	for _, info := range codeTable {
		if strings.EqualFold(string(info.Code), name) {
			return info, true
		}
	}
	return CodeInfo{}, false
}

// statusClientClosed has no name in net/http; proxies use it for a client that went away.
const statusClientClosed = 499

// codeTable is read only.
var codeTable = [...]CodeInfo{
	{BadRequest, http.StatusBadRequest, "The request is malformed",
		"The request cannot be read as HTTP with the expected parts, for example a body on GET or a query string with a broken escape."},
	{InvalidParameter, http.StatusBadRequest, "A parameter is invalid",
		"A parameter has the wrong type, is empty, is given twice, or its operator does not exist; detail names it and says what is expected."},
	{UnknownParameter, http.StatusBadRequest, "A parameter does not exist",
		"Parameters are field names of the dataset, optionally with an operator in brackets, or one of the general ones. A misspelt filter is refused because ignoring it would return every row."},
	{InvalidID, http.StatusBadRequest, "The row id is invalid",
		"A row id is the key's parts joined by commas, other bytes written ~XX. Take ids from a list, or build them from the key shown by GET /v1/datasets/{dataset}."},
	{InvalidRecord, http.StatusBadRequest, "Records break the declaration",
		"At least one record was refused by the dataset's declaration, so none was published. errors lists the first 20 with line, field and reason."},
	{ScanRefused, http.StatusBadRequest, "Query would scan the whole dataset",
		"No filter compares the first field of the key or of an index, so every row would be read. Add one that does (metadata.usable lists them), declare an index, or accept the cost with scan=allow."},
	{CursorMismatch, http.StatusBadRequest, "The cursor does not belong to this query",
		"A cursor continues one query of one dataset in one direction and cannot be changed. Repeat the same parameters, or start again without a cursor."},
	{CursorExpired, http.StatusBadRequest, "The cursor is too old",
		"Cursors are accepted for seven days. Start again without a cursor."},
	{Unauthenticated, http.StatusUnauthorized, "The caller is not known",
		"The dataset asks for credentials and the request has none that are valid: an API key in X-Api-Key, or a token in Authorization, as GET /v1/datasets/{dataset} says under auth. Why a credential was refused is in the log only."},
	{Forbidden, http.StatusForbidden, "The caller may not do this",
		"The credentials are valid, yet not for this dataset. Or a browser sent the request for the page of another site: its Host is not one that the API serves (--allow-host), or the Origin of a POST is not the API's own."},
	{NotFound, http.StatusNotFound, "No such path",
		"Nothing is served under this path. GET / lists where to start."},
	{DatasetNotFound, http.StatusNotFound, "No such dataset",
		"The declaration has no dataset with this name. GET /v1/datasets lists them."},
	{RowNotFound, http.StatusNotFound, "No such row",
		"No row has this id: it was never written, its retention has passed, or the id belongs to another dataset."},
	{MethodNotAllowed, http.StatusMethodNotAllowed, "The path does not support this method",
		"The Allow header lists the methods that the path supports."},
	{NotAcceptable, http.StatusNotAcceptable, "The response format is not offered",
		"The Accept header excludes what the path returns; detail names it."},
	{RequestTimeout, http.StatusRequestTimeout, "The request took too long to arrive",
		"The body was not received within the read timeout. Send it again, in smaller parts where the connection is slow."},
	{BodyTooLarge, http.StatusRequestEntityTooLarge, "The request body is too large",
		"The body exceeds the limit of bytes or of records that detail names. Split it into several requests."},
	{URITooLong, http.StatusRequestURITooLong, "The URL is too long",
		"The path and query exceed the limit that detail names. Use fewer or shorter filters."},
	{UnsupportedMediaType, http.StatusUnsupportedMediaType, "The request body has an unsupported type",
		"Records are sent as application/json (one object) or application/x-ndjson (one object per line), UTF-8, not compressed."},
	{RateLimited, http.StatusTooManyRequests, "The caller's quota is used up",
		"The dataset allows each caller a number of requests a minute, which RateLimit-Policy names. Retry after the time in Retry-After."},
	{HeadersTooLarge, http.StatusRequestHeaderFieldsTooLarge, "The request headers are too large",
		"The headers exceed the limit of bytes or lines."},
	{ClientClosed, statusClientClosed, "The client went away",
		"The client closed the connection before the answer was ready. Only logs and metrics show this code."},
	{Internal, http.StatusInternalServerError, "Internal error",
		"The service met a state that it cannot handle. The log has the details under the request id."},
	{Unavailable, http.StatusServiceUnavailable, "A dependency is unavailable",
		"The store or the message bus could not be reached, or the dataset's topic is missing. Retry after the time in Retry-After."},
	{Overloaded, http.StatusServiceUnavailable, "Too many requests at once",
		"The dataset already serves as many requests as it may at once. Retry after the time in Retry-After, with fewer in parallel."},
	{IndexBuilding, http.StatusServiceUnavailable, "The index is still being built",
		"The index was declared after rows were stored, and ingest is adding them to it. Until then it would not show every row, so it is not used. Retry later, or ask by the key."},
	{PublishIncomplete, http.StatusServiceUnavailable, "Only some records were published",
		"errors lists the lines that were not confirmed, metadata.published the others with their message ids. Sending them all again is safe: the same key replaces the row."},
	{DeadlineExceeded, http.StatusGatewayTimeout, "The deadline passed",
		"The answer was not ready in time. Retry, or ask for less: a narrower key range or a smaller limit."},
}
