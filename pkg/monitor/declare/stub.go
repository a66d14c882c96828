package declare

func (l *loader) compileDashboard(in *instance) {}
func (l *loader) compileMetrics()               {}
func (l *loader) lint()                         {}
