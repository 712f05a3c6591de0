// Beginnings to start from: Python, which is what the bundled models write. A gap is what stands between ⟦ and ⟧.
export const examples = [
  { name: "Function", text: 'def area(width, height):' },
  { name: "Class", text: 'class Stack:\n    """A stack of items."""\n\n    def __init__(self):' },
  { name: "Words", text: 'def count_words(text):\n    """Count how often each word occurs."""\n    counts = {}\n    for word in text.split():' },
  { name: "File", text: 'import os\nimport sys\n\n\ndef main(argv=None):\n    """Print the size of every file."""' },
  { name: "Gap", tokens: 8, text: 'class Rectangle:\n    def __init__(self, width, height):\n        self.width = width\n        ⟦self.height⟧ = height\n\n    def area(self):\n        return self.width * self.height\n' },
];

// The text without its marks, and where the gap begins and ends.
export function unmarked(text) {
  const start = text.indexOf("⟦"), end = text.indexOf("⟧") - 1;
  return start < 0 ? { text } : { text: text.replace("⟦", "").replace("⟧", ""), start, end };
}
