package openapi

// headerRefs refers to headers of the components.
func headerRefs(names ...string) Map[*Header] {
	var m Map[*Header]
	for _, name := range names {
		m.Set(name, &Header{Ref: "#/components/headers/" + name})
	}
	return m
}

// answerHeaders are those of every answer that is no error.
func answerHeaders(more ...string) Map[*Header] {
	return headerRefs(append([]string{"X-Request-Id", "X-Content-Type-Options", "Cache-Control", "Vary", "Content-Encoding"}, more...)...)
}

// dataHeaders are those of answers that read rows.
func dataHeaders(ds *datasetNames, more ...string) Map[*Header] {
	m := answerHeaders(append([]string{"Server-Timing"}, more...)...)
	if ds.API.QuotaPerMinute > 0 {
		m = append(m, headerRefs("RateLimit-Policy", "RateLimit")...)
	}
	return m
}

func (b *builder) addHeaders() {
	text := func(name, description, pattern string, required bool) {
		b.doc.Components.Headers.Set(name, &Header{Description: description, Required: required, Schema: &Schema{Type: typeString, Pattern: pattern}})
	}
	text("X-Request-Id", "Names the request in the log; the caller's own when it sent one that is safe to log.", `^[A-Za-z0-9._-]{1,64}$`, true)
	text("X-Content-Type-Options", "Always nosniff.", "", false)
	text("Cache-Control", "How long a client may reuse the answer without asking.", "", false)
	text("Vary", "The request headers that the answer depends on.", "", false)
	text("Content-Encoding", "zstd or gzip, when the caller takes it and the body is worth it.", `^(zstd|gzip)$`, false)
	text("ETag", "Send it as If-None-Match to get 304 while nothing changed.", `^(W/)?"[!-~]*"$`, false)
	text("Last-Modified", "The event time of the row, or of the newest row of the page.", "", false)
	text("Link", "The next page.", `^<[^>]+>; rel="next"$`, false)
	text("Server-Timing", "Where the time went, in milliseconds.", "", false)
	text("RateLimit-Policy", "The quota: `\"default\";q=600;w=60` is 600 requests in 60 seconds.", "", false)
	text("RateLimit", "What is left of the quota, and in how many seconds it is full again.", "", false)
	text("WWW-Authenticate", "How to authenticate.", "", false)
	text("Connection", "close, when the rest of the request was not read.", "", false)
	text("Content-Security-Policy", "What the page may load: nothing from elsewhere.", "", false)
	text("Referrer-Policy", "Where the page's address is sent: nowhere.", "", false)
	text("Trailer", "An export ends with trailers: Latam-End (complete or more), Latam-Rows, Latam-Next-Cursor. Without Latam-End it was cut.", "", false)
	text("X-Accel-Buffering", "no: proxies are asked to pass events on at once.", "", false)
	b.doc.Components.Headers.Set("Retry-After", &Header{
		Description: "Seconds to wait before the next try.", Schema: &Schema{Type: typeInteger, Minimum: number(1)},
	})
}
