"""The report of a build as one HTML file that needs nothing else: no network, no script, no font.

data      what a report is made from, plain values
reading   the artifacts of a finished build → data
sections/ data → titles, tables, notes and pictures to draw, one file a section
figures/  how each picture is drawn with matplotlib, which is imported only when one is drawn
page      all of it → HTML, through a template that escapes every text
"""
