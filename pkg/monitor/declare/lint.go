package declare

func (l *loader) lint() {}
