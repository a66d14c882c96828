package contract

// CompileAt compiles the schema at a pointer of a document.
func CompileAt(text []byte, pointer string) (*Schema, error) {
	root, err := decode(text)
	if err != nil {
		return nil, err
	}
	c := compiler{root: root, done: map[string]*Schema{}}
	return c.at(pointer)
}
