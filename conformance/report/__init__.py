"""What comes out of a run: terminal, JUnit XML, Markdown, badge and page. Each module imports only what it needs."""
