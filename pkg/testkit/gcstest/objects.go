package gcstest

import (
	"bytes"
	"crypto/md5" //nolint:gosec // The API names objects' contents by MD5.
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// upload is a resumable upload that has begun.
type upload struct {
	bucket     string
	attributes map[string]any
	query      map[string][]string
	data       []byte
}

func (s *Server) serveBuckets(w http.ResponseWriter, r *http.Request) {
	project := r.URL.Query().Get("project")
	if r.Method == http.MethodGet {
		items := []any{}
		for _, name := range slices.Sorted(maps.Keys(s.buckets)) {
			if b := s.buckets[name]; b.project == project && strings.HasPrefix(name, r.URL.Query().Get("prefix")) {
				items = append(items, b.config)
			}
		}
		reply(w, http.StatusOK, map[string]any{"kind": "storage#buckets", "items": items})
		return
	}
	var config map[string]any
	if err := json.NewDecoder(r.Body).Decode(&config); err != nil || r.Method != http.MethodPost {
		problem(w, http.StatusBadRequest, "invalid", "a bucket is inserted with POST and JSON")
		return
	}
	name, _ := config["name"].(string)
	if s.buckets[name] != nil {
		problem(w, http.StatusConflict, "conflict", "The requested bucket name is not available.")
		return
	}
	reply(w, http.StatusOK, s.addBucket(name, project, config).config)
}

// serveBucket serves /storage/v1/b/NAME and what is below it.
func (s *Server) serveBucket(w http.ResponseWriter, r *http.Request, name, rest string) {
	b := s.find(w, name)
	if b == nil {
		return
	}
	key := unescape(strings.TrimPrefix(rest, "o/"))
	switch {
	case rest == "" && r.Method == http.MethodGet:
		reply(w, http.StatusOK, b.config)
	case rest == "o" && r.Method == http.MethodGet:
		s.list(w, r, b)
	case strings.HasPrefix(rest, "o/") && r.Method == http.MethodGet && r.URL.Query().Get("alt") == "media":
		s.serveMedia(w, r, b, key)
	case strings.HasPrefix(rest, "o/") && r.Method == http.MethodGet:
		if v, ok := b.current(key); !ok {
			noObject(w, name, key)
		} else if met(w, r.URL.Query(), v) {
			reply(w, http.StatusOK, v.attributes)
		}
	case strings.HasPrefix(rest, "o/") && r.Method == http.MethodDelete:
		if v, ok := b.current(key); !ok {
			noObject(w, name, key)
		} else if met(w, r.URL.Query(), v) {
			b.objects[key] = append(b.objects[key], version{})
			w.WriteHeader(http.StatusNoContent)
		}
	default:
		problem(w, http.StatusNotImplemented, "notImplemented", r.Method+" "+r.URL.Path+" is not part of the stand-in")
	}
}

func noObject(w http.ResponseWriter, bucketName, key string) {
	problem(w, http.StatusNotFound, "notFound", fmt.Sprintf("No such object: %s/%s", bucketName, key))
}

// met checks the preconditions of a request against what there is; nothing there has generation 0.
func met(w http.ResponseWriter, query map[string][]string, v version) bool {
	metageneration := int64(1)
	if v.gone() {
		metageneration = 0
	}
	for parameter, have := range map[string]int64{"ifGenerationMatch": v.generation, "ifMetagenerationMatch": metageneration} {
		if want := query[parameter]; len(want) > 0 && want[0] != strconv.FormatInt(have, 10) {
			problem(w, http.StatusPreconditionFailed, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
			return false
		}
	}
	return true
}

// list answers in pages, with the folders when a delimiter is given.
func (s *Server) list(w http.ResponseWriter, r *http.Request, b *bucket) {
	query := r.URL.Query()
	size, err := strconv.Atoi(query.Get("maxResults"))
	if err != nil || size > 1000 {
		size = 1000
	}
	var items, folders []any
	next, seen := "", map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		v, ok := b.current(key)
		rest, under := strings.CutPrefix(key, query.Get("prefix"))
		if !ok || !under || key <= query.Get("pageToken") {
			continue
		}
		if len(items) == size {
			break
		}
		next = key
		if delimiter := query.Get("delimiter"); delimiter != "" && strings.Contains(rest, delimiter) {
			folder, _, _ := strings.Cut(rest, delimiter)
			if folder = query.Get("prefix") + folder + delimiter; !seen[folder] {
				seen[folder] = true
				folders = append(folders, folder)
			}
			continue
		}
		items = append(items, v.attributes)
	}
	if len(items) < size {
		next = ""
	}
	reply(w, http.StatusOK, map[string]any{"kind": "storage#objects", "items": items, "prefixes": folders, "nextPageToken": next})
}

// serveMedia answers with the content of the newest version, or of none when another one is asked for, and
// with what follows a byte of it.
func (s *Server) serveMedia(w http.ResponseWriter, r *http.Request, b *bucket, key string) {
	v, ok := b.current(key)
	if g := r.URL.Query().Get("generation"); !ok || g != "" && g != strconv.FormatInt(v.generation, 10) {
		noObject(w, fmt.Sprint(b.config["name"]), key)
		return
	}
	w.Header().Set("Content-Type", fmt.Sprint(v.attributes["contentType"]))
	w.Header().Set("X-Goog-Generation", strconv.FormatInt(v.generation, 10))
	w.Header().Set("X-Goog-Metageneration", "1")
	w.Header().Set("X-Goog-Hash", fmt.Sprintf("crc32c=%v,md5=%v", v.attributes["crc32c"], v.attributes["md5Hash"]))
	w.Header().Set("X-Goog-Stored-Content-Length", strconv.Itoa(len(v.data)))
	if encoding, ok := v.attributes["contentEncoding"].(string); ok {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), encoding) {
			problem(w, http.StatusNotImplemented, "notImplemented", "decompression is not part of the stand-in")
			return
		}
		w.Header().Set("Content-Encoding", encoding)
	}
	from := 0
	if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil && n == 1 && from < len(v.data) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(v.data)-1, len(v.data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(v.data[from:])
}

// serveUpload takes the three ways in which clients send content.
func (s *Server) serveUpload(w http.ResponseWriter, r *http.Request, name string) {
	b := s.find(w, name)
	if b == nil {
		return
	}
	query := r.URL.Query()
	attributes := map[string]any{}
	var data []byte
	var err error
	switch kind := query.Get("uploadType"); {
	case query.Get("upload_id") != "":
		s.resume(w, r, query.Get("upload_id"))
		return
	case kind == "resumable":
		if err = json.NewDecoder(r.Body).Decode(&attributes); err == nil {
			id := strconv.Itoa(len(s.uploads) + 1)
			s.uploads[id] = &upload{bucket: name, attributes: attributes, query: query}
			w.Header().Set("Location", s.URL+r.URL.Path+"?upload_id="+id)
			return
		}
	case kind == "multipart":
		attributes, data, err = readMultipart(r)
	default:
		data, err = io.ReadAll(r.Body)
	}
	if err != nil {
		problem(w, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	if key := query.Get("name"); key != "" {
		attributes["name"] = key
	}
	s.commit(w, b, name, query, attributes, data)
}

// resume takes one piece of a resumable upload.
func (s *Server) resume(w http.ResponseWriter, r *http.Request, id string) {
	u := s.uploads[id]
	piece, err := io.ReadAll(r.Body)
	if u == nil || err != nil {
		problem(w, http.StatusBadRequest, "invalid", "no such upload")
		return
	}
	u.data = append(u.data, piece...)
	if strings.HasSuffix(r.Header.Get("Content-Range"), "/*") {
		w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(u.data)-1))
		w.Header().Set("X-Http-Status-Code-Override", "308") // Google's clients ask for a 200 in its place.
		if r.Header.Get("X-Guploader-No-308") != "yes" {
			w.WriteHeader(http.StatusPermanentRedirect)
		}
		return
	}
	s.commit(w, s.buckets[u.bucket], u.bucket, u.query, u.attributes, u.data)
}

func readMultipart(r *http.Request) (attributes map[string]any, data []byte, err error) {
	_, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, nil, err
	}
	parts := multipart.NewReader(r.Body, parameters["boundary"])
	first, err := parts.NextPart()
	if err != nil {
		return nil, nil, err
	}
	if err := json.NewDecoder(first).Decode(&attributes); err != nil {
		return nil, nil, err
	}
	second, err := parts.NextPart()
	if err != nil {
		return nil, nil, err
	}
	data, err = io.ReadAll(second)
	return attributes, data, err
}

func (s *Server) commit(w http.ResponseWriter, b *bucket, name string, query map[string][]string, attributes map[string]any, data []byte) {
	key, _ := attributes["name"].(string)
	if key == "" {
		problem(w, http.StatusBadRequest, "required", "an object needs a name")
		return
	}
	if sum, ok := attributes["crc32c"].(string); ok && sum != checksum(data) {
		problem(w, http.StatusBadRequest, "invalid", "the content does not have the checksum that was sent with it")
		return
	}
	current, _ := b.current(key)
	if met(w, query, current) {
		reply(w, http.StatusOK, s.store(b, name, key, data, attributes).attributes)
	}
}

func (s *Server) store(b *bucket, name, key string, data []byte, attributes map[string]any) version {
	s.last++
	now := time.Now().UTC().Format(time.RFC3339Nano)
	sum := md5.Sum(data) //nolint:gosec // See the import.
	full := map[string]any{"contentType": "application/octet-stream"}
	maps.Copy(full, attributes)
	maps.Copy(full, map[string]any{
		"kind": "storage#object", "id": fmt.Sprintf("%s/%s/%d", name, key, s.last), "name": key, "bucket": name,
		"generation": strconv.FormatInt(s.last, 10), "metageneration": "1", "size": strconv.Itoa(len(data)),
		"md5Hash": base64.StdEncoding.EncodeToString(sum[:]), "crc32c": checksum(data), "timeCreated": now, "updated": now,
	})
	v := version{attributes: full, generation: s.last, data: bytes.Clone(data)}
	b.objects[key] = append(b.objects[key], v)
	return v
}

// checksum is the CRC32C of a content as the API writes it.
func checksum(data []byte) string {
	sum := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}
